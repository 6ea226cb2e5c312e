// A Windows of one's own (build/wine/with.sh), as the tests of the MSI and of the documents use it.
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { argumentsOf, processes, run } from '../e2e/processes.mjs';

export const prefix = process.env.WINEPREFIX;
if (!prefix || !process.env.HOME) throw new Error('runs inside build/wine/with.sh');
export const drive = join(prefix, 'drive_c');

const plain = (said) => ({ ...said, out: said.out.replaceAll('\r', ''), err: said.err.replaceAll('\r', '') });

/** Runs a program of that Windows to its end. */
export const wine = async (args, options = {}) => plain(await run('wine', args, { timeout: 120_000, ...options }));

/** The same, and how long it took in seconds. */
export async function timed(args, options) {
  const began = Date.now();
  const said = await wine(args, options);
  return { ...said, seconds: (Date.now() - began) / 1000 };
}

/** What the shell of an exit status shows: a process of this system has eight bits of it. */
export const bits = (status) => status & 255;

/** A Windows path of that Windows as one of this system. */
export const unix = (path) => join(drive, ...path.replace(/^C:\\/i, '').split('\\'));

/** The processes of a program, by the name of its file, with an argument. */
export const running = (name, argument = '') => processes()
  .filter(({ pid }) => {
    const [program, ...args] = argumentsOf(pid).split('\0');
    return program.toLowerCase().endsWith(`\\${name.toLowerCase()}`) && (!argument || args.includes(argument));
  })
  .map(({ pid }) => pid);

/** The whole registry: a line for each value, by its key and name. */
export async function registry() {
  const file = join(drive, 'registry-of-the-test.reg');
  const said = await wine(['regedit', '/E', 'C:\\registry-of-the-test.reg']);
  if (said.code !== 0 || !existsSync(file)) throw new Error(`the registry could not be read: ${said.err}`);
  const text = readFileSync(file, 'utf16le').replaceAll('\r', '').replace(/\\\n\s*/g, '');
  rmSync(file);
  const values = new Map();
  let key = '';
  for (const line of text.split('\n')) {
    const value = line.match(/^(@|"(?:[^"\\]|\\.)*")=(.*)$/);
    if (line.startsWith('[')) values.set((key = line.slice(1, -1)), '');
    else if (value) values.set(`${key} ${value[1]}`, value[2]);
  }
  return values;
}

/** Every file and folder below some, with what is in it. */
export function disk(...roots) {
  const found = new Map();
  const look = (path) => {
    const info = lstatSync(path);
    if (info.isSymbolicLink()) return;
    if (info.isDirectory()) {
      found.set(path, 'folder');
      for (const name of readdirSync(path)) look(join(path, name));
    } else if (info.isFile()) {
      found.set(path, createHash('sha256').update(readFileSync(path)).digest('hex'));
    }
  };
  roots.forEach(look);
  return found;
}

/** What differs between two of the above, but for what except takes. */
export function difference(before, after, except = () => false) {
  const wrong = [];
  for (const [name, text] of after) {
    if (!before.has(name)) wrong.push(`new: ${name} ${text}`);
    else if (before.get(name) !== text) wrong.push(`changed: ${name}: ${before.get(name)} → ${text}`);
  }
  for (const name of before.keys()) if (!after.has(name)) wrong.push(`gone: ${name}`);
  return wrong.filter((line) => !except(line));
}
