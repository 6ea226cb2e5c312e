// A Windows of one's own (build/wine/with.sh), as the tests of the MSI and of the documents use it.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, lstatSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { argumentsOf, processes } from '../e2e/processes.mjs';
import { until, Wrong } from '../e2e/steps.mjs';

export const prefix = process.env.WINEPREFIX;
if (!prefix || !process.env.HOME) throw new Error('runs inside build/wine/with.sh');
export const drive = join(prefix, 'drive_c');

/**
 * Runs a program of that Windows to its end and returns its exit status and what it said. The agent that a link starts
 * keeps the streams of whoever pressed it, so they are files: their end is not waited for.
 */
export async function wine(args, { timeout = 60_000 } = {}) {
  const folder = mkdtempSync(join(process.env.TMPDIR ?? '/tmp', 'said-'));
  const [out, err] = ['out', 'err'].map((name) => openSync(join(folder, name), 'w'));
  const code = await new Promise((done, refuse) => {
    const child = spawn('wine', args, { stdio: ['ignore', out, err] });
    const late = setTimeout(() => {
      child.kill('SIGKILL');
      refuse(new Wrong(`this did not end within ${timeout / 1000} s: ${args.join(' ')}; it said ${readFileSync(join(folder, 'out'), 'utf8').slice(0, 300)}`));
    }, timeout);
    child.on('error', refuse);
    child.on('exit', (status) => (clearTimeout(late), done(status ?? -1)));
  });
  closeSync(out);
  closeSync(err);
  const said = (name) => readFileSync(join(folder, name), 'utf8').replaceAll('\r', '');
  const answer = { code, out: said('out'), err: said('err') };
  rmSync(folder, { recursive: true });
  return answer;
}

/** The same, and how long it took in seconds. */
export async function timed(args, options) {
  const began = Date.now();
  const said = await wine(args, options);
  return { ...said, seconds: (Date.now() - began) / 1000 };
}

/**
 * Takes the empty entries out of the computer's Path. Wine's Windows Installer takes our folder out and leaves its semicolon;
 * with two in a row Wine's cmd finds the .exe before the .com.
 */
export async function mendPath() {
  const key = 'HKLM\\System\\CurrentControlSet\\Control\\Session Manager\\Environment';
  const [, path] = (await wine(['reg', 'query', key, '/v', 'Path'])).out.match(/Path\s+REG_EXPAND_SZ\s+(.*)/i);
  await wine(['reg', 'add', key, '/v', 'Path', '/t', 'REG_EXPAND_SZ', '/d', path.trim().replace(/;;+/g, ';'), '/f']);
}

/** What the shell of an exit status shows: a process of this system has eight bits of it. */
export const bits = (status) => status & 255;

/** A Windows path of that Windows as one of this system. */
export const unix = (path) => join(drive, ...path.replace(/^C:\\/i, '').split('\\'));

/** Whether a process belongs to this Windows: others may run on this computer at the same time. */
function ours(pid) {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(`WINEPREFIX=${prefix}`);
  } catch {
    return false; // it has ended
  }
}

/** The processes of a program, by the name of its file, with an argument. */
export const running = (name, argument = '') => processes()
  .filter(({ pid }) => {
    const [program, ...args] = argumentsOf(pid).split('\0');
    return program.toLowerCase().endsWith(`\\${name.toLowerCase()}`) && (!argument || args.includes(argument)) && ours(pid);
  })
  .map(({ pid }) => pid);

/** The text of a value that regedit writes in hexadecimal. */
export const decoded = (hex) => Buffer.from(hex.replace(/^hex\(\w+\):/, '').split(',').map((b) => parseInt(b, 16))).toString('utf16le');

/** Waits until this Windows has started: until then it may yet run what starts at logon. */
export async function started() {
  await wine(['cmd', '/c', 'exit']);
  await until('Windows to start', () => running('wineboot.exe').length === 0);
}

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
    else if (value) values.set(`${key} ${value[1]}`, value[2].replace(/^hex\(2\):.*/, (hex) => JSON.stringify(decoded(hex).replace(/\0$/, ''))));
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
