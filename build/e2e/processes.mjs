// Starting, finding and ending processes, always by their id.
import { spawn, execFile } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { pause } from './steps.mjs';

const started = [];

/** Starts a program that runs until endAll; what it says goes to a file descriptor. */
export function start(program, args, { log, stdio, ...options } = {}) {
  const child = spawn(program, args, { stdio: stdio ?? ['ignore', log, log], ...options });
  child.on('error', () => {});
  started.push(child);
  return child;
}

/** Remembers a child that was started otherwise. */
export const adopt = (child) => (started.push(child), child);

/** Ends a program that was started. */
export async function end(child) {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const gone = new Promise((done) => child.once('exit', done));
  child.kill('SIGTERM');
  await Promise.race([gone, pause(5000).then(() => child.kill('SIGKILL'))]);
}

/** Ends what was started, the newest first. */
export async function endAll() {
  for (const child of started.reverse()) await end(child);
}

/** Runs a program to its end and returns its exit status and what it said. */
export function run(program, args, { input, timeout = 30_000, ...options } = {}) {
  return new Promise((done) => {
    const child = execFile(program, args, { timeout, maxBuffer: 16 << 20, ...options }, (error, out, err) => {
      const code = error ? (typeof error.code === 'number' ? error.code : -1) : 0;
      done({ code, out, err, pid: child.pid });
    });
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}

const read = (pid, file) => {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
};

/** Every process that this user may look at. */
export function processes() {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map((name) => {
    let exe = '';
    try {
      exe = readlinkSync(`/proc/${name}/exe`);
    } catch { /* a kernel thread, or another user's */ }
    const stat = read(name, 'stat');
    const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    return { pid: Number(name), parent, exe };
  });
}

/** The processes of a program, by the file that they run. */
export const running = (file) => processes().filter((p) => p.exe === file).map((p) => p.pid);

/** A process and all that descend from it. */
export function family(pid) {
  const all = processes();
  const found = new Set([pid]);
  for (let grew = true; grew; ) {
    grew = false;
    for (const p of all) {
      if (found.has(p.parent) && !found.has(p.pid)) {
        found.add(p.pid);
        grew = true;
      }
    }
  }
  return all.filter((p) => found.has(p.pid));
}

export const alive = (pid) => read(pid, 'stat') !== '' && !/\) Z /.test(read(pid, 'stat'));
export const argumentsOf = (pid) => read(pid, 'cmdline');
export const environmentOf = (pid) => read(pid, 'environ');

/** A free port on loopback. */
export const freePort = () => new Promise((done, refuse) => {
  const server = createServer().once('error', refuse).listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => done(port));
  });
});
