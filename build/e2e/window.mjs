// The real window, as a person with a keyboard and a screen reader has it: what has
// the focus, Tab until it is there, Enter, and pictures.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { screenshot, windowsTitled } from './desk.mjs';
import { alive, family, run, running } from './processes.mjs';
import { expect, until, Wrong } from './steps.mjs';
import { desktop, env, launcher, out, windowProgram, windowShows } from './world.mjs';

const folder = join(out, 'window');

/** How often Tab is pressed at most to reach something: more than a page has. */
const mostTabs = 40;

export class Window {
  /** Starts the program a second time, as where there is no tray. */
  static async open({ dark = false } = {}) {
    mkdirSync(folder, { recursive: true });
    const settings = join(env.XDG_CONFIG_HOME, 'gtk-3.0');
    mkdirSync(settings, { recursive: true });
    writeFileSync(join(settings, 'settings.ini'), `[Settings]\ngtk-application-prefer-dark-theme=${dark ? 1 : 0}\n`);
    const { code, err } = await launcher();
    expect(code === 0, () => `the second start ended with ${code}: ${err}`);
    return Window.attach();
  }

  /** The window that is open. */
  static async attach() {
    const window = new Window();
    window.pid = await until('the window', async () => (await windowsTitled('^Encounter Launcher$')).length === 1 && running(windowProgram)[0]);
    [window.id] = await windowsTitled('^Encounter Launcher$');
    await run('xdotool', ['windowmove', '--sync', window.id, '760', '120']);
    await window.activate();
    return window;
  }

  activate = () => run('xdotool', ['windowactivate', '--sync', this.id]);
  shows = (...texts) => windowShows(this.pid, ...texts);
  read = () => desktop.read(this.pid);

  async keys(...names) {
    await this.activate();
    const { code, err } = await run('xdotool', ['key', '--clearmodifiers', ...names]);
    expect(code === 0, () => `xdotool: ${err}`);
  }

  /** What has the keyboard's focus; a page has it until something on it does. */
  focused = () => desktop.focused(this.pid);

  /** Presses Tab until something with this name has the focus. */
  async tabTo(name, { from = 'Tab' } = {}) {
    const seen = [];
    for (let i = 0; i <= mostTabs; i++) {
      const at = await this.focused();
      if (at.name === name && at.role !== 'heading') return at;
      seen.push(`${at.role} “${at.name}”`);
      await this.keys(from);
      await until('the focus to move', async () => JSON.stringify(await this.focused()) !== JSON.stringify(at), { within: 3000, every: 20 }).catch(() => {});
    }
    throw new Wrong(`Tab does not reach “${name}”; it was at ${seen.join(', ')}`);
  }

  /** Presses what has this name, by keyboard alone. */
  async press(name) {
    const at = await this.tabTo(name);
    await this.keys('Return');
    return at;
  }

  /** Every stop of Tab on the page, from its first to the last before it begins anew. */
  async stops() {
    const found = [];
    for (let i = 0; i <= mostTabs; i++) {
      await this.keys('Tab');
      const at = await this.focused();
      const key = `${at.role} “${at.name}”`;
      if (found.length > 0 && key === found[0]) return found;
      if (at.role !== '' && at.role !== 'document web' && at.role !== 'heading') found.push(key);
    }
    return found;
  }

  /** A picture of the window. */
  async picture(name) {
    await this.activate();
    await screenshot(join(folder, `${name}.png`), this.id);
  }

  async close() {
    const members = family(this.pid);
    await this.keys('alt+F4');
    await until('every process of the window to end', () => members.every((p) => !alive(p.pid)));
  }

  /** Waits until the window has gone by itself. */
  gone = () => until('the window to be closed', () => !alive(this.pid));
}
