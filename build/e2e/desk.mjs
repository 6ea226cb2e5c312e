// The desktop of the run: display, window manager, keyring, and the stand-ins for
// tray host and notification service.
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { run, start } from './processes.mjs';
import { patience, until, within, Wrong } from './steps.mjs';

/** Starts a display and returns its name. */
export async function startDisplay(log) {
  const xvfb = start('Xvfb', ['-displayfd', '3', '-screen', '0', '1280x960x24', '-nolisten', 'tcp'], { stdio: ['ignore', log, log, 'pipe'] });
  let number = '';
  xvfb.stdio[3].on('data', (data) => (number += data));
  await until('the display', () => number.endsWith('\n'));
  return `:${number.trim()}`;
}

/** Starts a keyring and unlocks it, as signing in at the workstation does. */
export async function startKeyring(log) {
  const daemon = start('gnome-keyring-daemon', ['--foreground', '--unlock', '--components=secrets'], { stdio: ['pipe', log, log] });
  daemon.stdin.end('the password of the run');
  // Whoever asks it for anything earlier makes the bus start another, locked one.
  const owned = ['call', '--session', '-d', 'org.freedesktop.DBus', '-o', '/', '-m', 'org.freedesktop.DBus.NameHasOwner', 'org.freedesktop.secrets'];
  await until('the keyring', async () => (await run('gdbus', owned)).out.includes('true'));
  const stored = await run('secret-tool', ['store', '--label=e2e', 'e2e', 'probe'], { input: 'probe' });
  if (stored.code !== 0) throw new Wrong(`the keyring takes nothing: ${stored.err}`);
}

/** Starts a bus on which nobody is but whom the test puts there, and returns its address. */
export async function startSystemBus(dir, log) {
  const [config, socket] = [join(dir, 'system-bus.conf'), join(dir, 'system-bus')];
  writeFileSync(config, `<busconfig><type>system</type><listen>unix:path=${socket}</listen><policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`, { mode: 0o600 });
  start('dbus-daemon', [`--config-file=${config}`, '--nofork', '--nopidfile'], { log });
  await until('the system bus', () => existsSync(socket));
  return `unix:path=${socket}`;
}

/** The tray host, the notification service and the reader of windows. */
export class Desktop {
  #waiting = [];

  static async start(program, log) {
    const desktop = new Desktop();
    const child = start(program, [], { stdio: ['pipe', 'pipe', log] });
    desktop.child = child;
    const ready = desktop.#next();
    createInterface({ input: child.stdout }).on('line', (line) => desktop.#waiting.shift()?.(JSON.parse(line)));
    child.once('exit', () => desktop.#waiting.forEach((w) => w({ error: 'the stand-in has ended' })));
    const first = await ready;
    if (!first.ready) throw new Wrong(`the stand-in for the desktop did not start: ${first.error}`);
    return desktop;
  }

  #next() {
    return new Promise((done) => this.#waiting.push(done));
  }

  async #ask(command) {
    const answer = this.#next();
    this.child.stdin.write(`${JSON.stringify(command)}\n`);
    const { result, error } = await within(patience, `the desktop to ${command.do}`, answer);
    if (error) throw new Wrong(error);
    return result;
  }

  /** The lines of the tray's menu that can be seen. */
  menu = () => this.#ask({ do: 'menu' });
  click = (id) => this.#ask({ do: 'click', id });
  /** Every notice so far, oldest first. */
  notices = () => this.#ask({ do: 'notices' });
  /** Presses a button of a notice. */
  act = (id, key) => this.#ask({ do: 'act', id, key });
  /** Leaves the notices to a real service, or takes them back. */
  aside = (away) => this.#ask({ do: 'aside', id: away ? 1 : 0 });
  /** What the windows of a process show: role, name, text. */
  read = (pid) => this.#ask({ do: 'read', id: pid });
  /** Where the keyboard is in the windows of a process. */
  focused = (pid) => this.#ask({ do: 'focused', id: pid });
  /** The person's session: locked and unlocked, and for how many seconds nobody has touched anything. */
  lock = () => this.#ask({ do: 'lock' });
  unlock = () => this.#ask({ do: 'unlock' });
  idle = (seconds) => this.#ask({ do: 'idle', id: seconds });
}

/** A picture of a window, or of the whole screen. */
export const screenshot = async (file, window = 'root') => {
  const { code, err } = await run('import', ['-window', window, file]);
  if (code !== 0) throw new Wrong(`import: ${err}`);
};

/** The ids of the visible windows with a title. */
export const windowsTitled = async (title) =>
  (await run('xdotool', ['search', '--onlyvisible', '--name', title])).out.split('\n').filter(Boolean);
