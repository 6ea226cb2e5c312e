// The clinician's browser: Debian's Chromium, driven by playwright-core, and made
// the desktop's default browser, so that what the launcher opens arrives in it as
// a new tab.
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromFrontend } from './needs.mjs';
import { run } from './processes.mjs';
import { patience, until, within, Wrong } from './steps.mjs';

export const { chromium } = (await fromFrontend('playwright-core')).default;

export const chromiumPath = '/usr/bin/chromium';

export class Browser {
  /** env is the desktop's; dir becomes the browser's own folder. */
  static async start(env, dir) {
    const browser = new Browser();
    mkdirSync(dir, { mode: 0o700 });
    browser.profile = join(dir, 'profile');
    browser.opened = join(dir, 'opened');
    writeFileSync(browser.opened, '');
    // One dot for each address that the desktop hands to the browser, never the address.
    const program = join(dir, 'browser');
    writeFileSync(program, `#!/bin/sh\nprintf . >>'${browser.opened}'\nexec '${chromiumPath}' --no-sandbox --user-data-dir='${browser.profile}' "$@"\n`);
    chmodSync(program, 0o755);
    const applications = join(env.XDG_DATA_HOME, 'applications');
    mkdirSync(applications, { recursive: true });
    writeFileSync(join(applications, 'e2e-browser.desktop'),
      `[Desktop Entry]\nType=Application\nName=Browser\nExec=${program} %u\nMimeType=x-scheme-handler/http;x-scheme-handler/https;\n`);
    const set = await run('xdg-mime', ['default', 'e2e-browser.desktop', 'x-scheme-handler/http', 'x-scheme-handler/https'], { env });
    if (set.code !== 0) throw new Wrong(`xdg-mime: ${set.err}`);

    browser.context = await chromium.launchPersistentContext(browser.profile, {
      executablePath: chromiumPath, headless: false, viewport: null, env,
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
        '--disable-sync', '--disable-dev-shm-usage', '--test-type', '--password-store=basic', '--window-size=1240,900', '--window-position=10,10',
        '--host-resolver-rules=MAP rebound.example 127.0.0.1'], // a name whose owner has it lead here
    });
    browser.context.setDefaultTimeout(patience);
    browser.ehr = browser.context.pages()[0] ?? await browser.context.newPage();
    return browser;
  }

  /** How many addresses the desktop has handed to the browser so far. */
  handed = () => readFileSync(this.opened, 'utf8').length;

  /** The tabs at an origin. */
  tabsAt = (origin) => this.context.pages().filter((page) => page.url().startsWith(`${origin}/`));

  /** Waits for a tab at an origin and for something on it. */
  async tabAt(origin, selector) {
    const tab = await until(`a tab at ${origin}`, () => this.tabsAt(origin)[0]);
    await tab.waitForSelector(selector);
    return tab;
  }

  /** Waits for a tab at an origin that has something on it, among others that have not. */
  tabWith = (origin, selector) => until(`a tab at ${origin} with ${selector}`, async () => {
    for (const tab of this.tabsAt(origin)) if (await tab.locator(selector).count() > 0) return tab;
    return null;
  });

  /** Closes every tab but the EHR's. */
  async tidy() {
    for (const page of this.context.pages()) if (page !== this.ehr) await this.#closeTab(page);
    await within(patience, "the EHR's tab to come to the front", this.ehr.bringToFront());
  }

  /** Closes a tab. Neither this nor coming to the front has a time limit of the driver's own. */
  async #closeTab(page) {
    try {
      await within(10_000, 'a tab to close', page.close());
    } catch (error) {
      if (!(error instanceof Wrong)) throw error;
      console.log('      a tab does not close; the browser itself is told to close it');
      const session = await this.context.newCDPSession(this.ehr);
      const { targetInfos: targets } = await session.send('Target.getTargets');
      for (const t of targets) if (t.type === 'page' && t.url === page.url()) await session.send('Target.closeTarget', { targetId: t.targetId });
      await session.detach();
      await within(patience, 'the tab to close', new Promise((done) => (page.isClosed() ? done() : page.once('close', done))));
    }
  }

  close = () => within(patience, 'the browser to close', this.context.close());
}
