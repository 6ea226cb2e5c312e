// What a clinician sees and does: the real window by keyboard alone, in light and
// dark, in French and at 200 %, the notices, and a workstation that several share.
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { screenshot } from './desk.mjs';
import { secretsIn } from './leaks.mjs';
import { end, run, running, start } from './processes.mjs';
import { expect, pause, until } from './steps.mjs';
import { Window } from './window.mjs';
import {
  ada, agents, arrived, at, browser, changePolicy, desktop, door, encounterOf, encounterOpens, env, flat, isRefused, issued, keyringDump, lastLaunch,
  launcher, launchIs, log, nothingOpened, noticesNow, opened, picture, press, searchEverything, secrets, state, status, steps, trayClick, wasOpened,
  windowProgram, words,
} from './world.mjs';

const wordsOf = (language) => JSON.parse(readFileSync(new URL(`../../frontend/src/words/${language}.json`, import.meta.url), 'utf8'));
const french = wordsOf('fr');

/** A word with its placeholders filled. */
const fill = (word, values) => word.replace(/\{(\w+)\}/g, (hole, name) => values[name] ?? hole);

const recents = async () => JSON.parse((await launcher('recents', '--json')).out);
const trayLines = async () => flat(await desktop.menu()).map((line) => line.label);

/** Signs in on the page that is open. */
async function signIn(person = ada) {
  const page = await browser.tabWith(at.issuer, 'button[name=who]');
  await page.getByRole('button', { name: person.name }).click();
}

/** Waits for a notice that was not there before and says something. */
const noticeSaying = (text, before) => until(`a notice that says “${text}”`, async () =>
  (await desktop.notices()).find((n) => !before.includes(n.id + n.summary + n.body) && n.body.includes(text)));

/** Opens one encounter after another. */
async function openAll(...buttons) {
  for (const button of buttons) {
    await press(button);
    await encounterOpens(encounterOf(button));
    wasOpened(encounterOf(button));
    await browser.tidy();
  }
}

const pages = ['settings', 'diagnostics', 'about', 'home'];

/** Goes through the pages by keyboard and takes a picture of each. */
async function tour(window, spoken, suffix) {
  for (const page of pages) {
    await window.press(spoken[`nav.${page}`]);
    // The tab is there all the time; what only this page has tells that it is shown.
    await window.shows({ settings: spoken['settings.notices'], diagnostics: spoken['diagnostics.versions'], about: spoken['about.what'], home: ada.email.split('@')[0] }[page]);
    await window.picture(`${page}-${suffix}`);
  }
}

/**
 * Takes a picture of the pages that only come when something happens: the first run,
 * the sign-in, a launch under way and one that failed. The next start is a first one.
 */
async function portraits(spoken, suffix, { dark = false, zoomed = false, language } = {}) {
  expect((await launcher('sign-out', '--all')).code === 0, 'sign-out --all did not work');
  expect((await launcher('quit')).code === 0, 'quit did not work');
  await until('the agent to end', () => agents().length === 0);
  rmSync(join(state, 'signed-in-before'), { force: true });
  expect((await launcher('settings', ...(language ? ['set', 'Language', language] : ['reset', 'Language']))).code === 0, 'the language could not be set');
  const window = await Window.open({ dark });
  await window.shows(spoken['welcome.heading'], spoken['diagnostics.all_well']);
  if (zoomed) await window.keys(...Array(4).fill('ctrl+plus'));
  await window.picture(`welcome-${suffix}`);
  await browser.tidy();
  await window.press(spoken['home.sign_in']);
  await window.shows(spoken['signin.heading']);
  await window.picture(`sign-in-${suffix}`);
  await signIn();
  await window.shows(spoken['home.signed_in']);
  await browser.tidy();
  const release = door.hold();
  try {
    await press(1);
    await window.shows(spoken['launching.heading'], spoken['stage.creating']);
    await window.picture(`launching-${suffix}`);
    await window.press(spoken['launching.cancel']);
    await launchIs('cancelled', 'cancelled');
    arrived();
  } finally {
    release();
  }
  await press('stale');
  await window.shows(spoken['trouble.heading'], spoken['problem.handle_expired.sentence']);
  arrived();
  await window.picture(`problem-${suffix}`);
  await window.close();
}

/** From a first start to a workstation that the next person finds empty. */
export async function clinician() {
  await steps.step('first run: a second start without a tray opens the window, which checks the set-up and offers sign-in', async () => {
    rmSync(join(state, 'signed-in-before'), { force: true });
    expect((await launcher('register')).code === 0, 'the links could not be registered');
    opened.splice(0);
    await browser.tidy();
    changePolicy({ HelpDeskURL: 'https://help.hospital.example/' });
    const window = await Window.open();
    await window.shows(words['welcome.heading'], words['welcome.button'], words['check.policy'], words['check.keyring'], words['check.link'], words['check.sign_in'], words['check.backend']);
    await window.shows(words['diagnostics.all_well']);
    await window.picture('welcome-light');

    await window.press(words['home.sign_in']);
    await browser.tabAt(at.issuer, 'button');
    await window.shows(words['signin.heading'], words['signin.text']);
    await window.picture('sign-in-light');
    const before = browser.tabsAt(at.issuer).length;
    await window.press(words['signin.again']);
    await until('the page once more', () => browser.tabsAt(at.issuer).length === before + 1);
    await signIn();
    await window.shows(words['home.signed_in'], words['recents.heading'], fill(words['home.managed_by'], { organization: 'Sandbox Hospital' }));
    expect((await status()).person?.email === ada.email, 'somebody else is signed in');
    await browser.tidy();
    await window.close();
  });

  await steps.step('every page is reached and left by keyboard alone, and everything on it has a name', async () => {
    await openAll(1, 2, 3);
    const window = await Window.open();
    await window.shows(words['recents.heading'], words['status.opened'], words['home.backend_ok']);
    await tour(window, words, 'light');
    for (const page of pages) {
      await window.press(words[`nav.${page}`]);
      const stops = await window.stops();
      expect(stops.length > 3, () => `on ${page} Tab stops at ${stops.join(', ')}`);
      expect(!stops.some((stop) => stop.endsWith('“”')), () => `on ${page} something has no name: ${stops.join(', ')}`);
    }
    await window.press(words['nav.diagnostics']);
    await window.press(words['diagnostics.check']);
    await window.shows(words['diagnostics.all_well']);
    await window.keys('Escape');
    await window.shows(words['home.signed_in']);
    const roles = (await window.read()).map((s) => s.role);
    for (const role of ['heading', 'push button', 'list', 'list item']) expect(roles.includes(role), () => `nothing has the role ${role}: ${[...new Set(roles)].join(', ')}`);
    await window.keys(...Array(4).fill('ctrl+plus'));
    await tour(window, words, '200');
    await window.keys('ctrl+0');
    await window.close();
  });

  await steps.step('dark where the desktop is', async () => {
    const window = await Window.open({ dark: true });
    await window.shows(words['home.signed_in']);
    await tour(window, words, 'dark');
    await window.close();
  });

  await steps.step('French is chosen in the window by keyboard: window, tray and the next start speak it', async () => {
    let window = await Window.open();
    await window.press(words['nav.settings']);
    await window.press('Français');
    await window.shows(french['nav.settings'], french['settings.language'], french['settings.source_person']);
    await until('the tray to speak French', async () => (await trayLines()).includes(french['tray.open_window']));
    await tour(window, french, 'fr');
    await window.close();
    window = await Window.open();
    await window.shows(french['home.signed_in'], french['recents.heading']);
    await window.close();
    expect((await launcher('settings', 'reset', 'Language')).code === 0, 'the language could not be reset');
    await until('the tray to speak English', async () => (await trayLines()).includes(words['tray.open_window']));
  });

  await steps.step('a value that policy sets is shown locked, with who has set it', async () => {
    changePolicy({ Language: 'en', HiddenItems: ['diagnostics', 'quit'] });
    const window = await Window.open();
    await window.press(words['nav.settings']);
    await window.shows(words['settings.locked'], words['settings.source_machine']);
    await window.picture('settings-locked');
    const shown = (await window.read()).map((s) => s.name);
    expect(!shown.includes(words['nav.diagnostics']), 'what policy hides is shown');
    await until('the tray to hide it', async () => !(await trayLines()).includes(words['tray.quit']));
    await window.close();
    changePolicy({ Language: undefined, HiddenItems: undefined });
    await until('the tray to show it again', async () => (await trayLines()).includes(words['tray.quit']));
  });

  await steps.step('an exported note shows in the recents: window, tray and command line', async () => {
    const window = await Window.open();
    await browser.ehr.locator('[data-exported="2"]').click();
    await window.shows(words['status.exported']);
    await until('the tray to say so', async () => (await trayLines()).some((label) => label.endsWith('note exported')));
    const list = await recents();
    expect(list.filter((r) => r.status === 'exported').length === 1, () => `the recents are ${list.map((r) => r.status).join(', ')}`);

    await window.picture('home-exported');

    const remove = (await window.read()).map((s) => s.name).filter((name) => name.startsWith(words['recents.remove_named'].split('{')[0]));
    expect(remove.length === 3, () => `${remove.length} encounters can be removed`);
    await window.press(remove[0]);
    await until('one less', async () => (await recents()).length === 2);
    await window.press(words['undo.undo']);
    await until('it to be back', async () => (await recents()).length === 3);
    await window.close();
  });

  await steps.step('a launch shows its stages, and a problem what to do; Escape and Enter are enough', async () => {
    const window = await Window.open();
    const release = door.hold();
    try {
      await press(1);
      await window.shows(words['launching.heading'], words['stage.creating'], words['launching.soon']);
      await window.picture('launching-light');
      await window.press(words['launching.cancel']);
      await launchIs('cancelled', 'cancelled');
      arrived();
    } finally {
      release();
    }
    const [notices, before, handed] = [await noticesNow(), await lastLaunch(), browser.handed()];
    await press('stale');
    await isRefused('handle_expired', notices, before);
    await window.shows(words['trouble.heading'], words['problem.handle_expired.sentence'], words['trouble.reference'], words['trouble.help_desk']);
    await window.picture('problem-light');
    await window.press(words['trouble.back']);
    await window.shows(words['home.signed_in']);
    await nothingOpened(handed);
    await window.close();
  });

  await steps.step('“Didn’t open?” in the tray opens the last encounter again through a fresh address', async () => {
    await openAll(3);
    const since = door.launches.length;
    await pause(2200); // a line that has just moved opens nothing
    await trayClick('the fresh link', (label) => label === words['tray.didnt_open']);
    await encounterOpens(encounterOf(3));
    expect(door.launches.slice(since).map((c) => c.path).join() === '/encounters/url', 'the backend was asked for something else');
    await browser.tidy();
  });

  await steps.step('a slow launch is told of where no window shows it, and the notice goes when it is open', async () => {
    const before = await noticesNow();
    const release = door.hold();
    let notice;
    try {
      await press(2);
      notice = await noticeSaying(words['notice.slow'], before);
    } finally {
      release();
    }
    await encounterOpens(encounterOf(2));
    wasOpened(encounterOf(2));
    await until('the notice to go', async () => (await desktop.notices()).find((n) => n.id === notice.id).closed);
    await browser.tidy();
  });

  await steps.step('a real notification service shows the notice, and a press on it opens the window', async () => {
    await desktop.aside(true);
    const dunst = start('dunst', ['-conf', '/dev/null'], { log: log('dunst'), env });
    try {
      const dunstctl = async (...args) => (await run('dunstctl', args, { env })).out.trim();
      await until('dunst', async () => (await dunstctl('is-paused')) === 'false');
      await door.down();
      await press(2);
      const { reference } = await launchIs('failed', 'org_unreachable');
      arrived();
      await until('the notice', async () => (await dunstctl('count', 'displayed')) === '1');
      await screenshot(picture('notice-dunst'));
      await door.up();
      await dunstctl('action', '0');
      await until('the window', async () => running(windowProgram).length === 1);
      await dunstctl('close-all');
      const told = JSON.parse(await dunstctl('history')).data.flat().map((n) => `${n.summary.data}\n${n.body.data}`);
      expect(told.some((text) => text.includes(words['problem.org_unreachable.sentence']) && text.includes(reference)), () => `dunst was told ${JSON.stringify(told)}`);
      expect(!told.some((text) => /SBX-|Samplewell|Placeholder|Mockingham|:\/\//.test(text)), 'a notice names a patient or an address');
      const window = await Window.attach();
      await window.shows(words['trouble.heading']);
      await window.close();
    } finally {
      await end(dunst);
      await desktop.aside(false);
    }
  });

  await steps.step('a hostile label is inert in window, tray and terminal', async () => {
    changePolicy({ RecentsLabel: 'name' });
    door.label = '<img src=x onerror=alert(1)>\u202eevil\u2066\u200b\n\tEve & "Co" _x_ 😀';
    await openAll(1);
    door.label = null;
    const window = await Window.open();
    await window.shows('<img src=x onerror=alert(1)>evil', 'Eve & "Co" _x_ 😀');
    await window.picture('home-hostile');
    const line = (await trayLines()).find((label) => label.includes('onerror'));
    for (const text of [line, (await launcher('recents')).out.split('\n').find((l) => l.includes('onerror')) ?? '']) {
      expect(text.includes('Eve') && !/[\u202a-\u202e\u2066-\u2069\u200b\t\n]/.test(text), () => `it is shown as ${JSON.stringify(text)}`);
    }
    expect(!(await desktop.notices()).some((n) => /evil|Eve/.test(n.summary + n.body)), 'a notice names the patient');
    await window.close();
    changePolicy({ RecentsLabel: undefined });
  });

  await steps.step('every other page has its picture: dark, at 200 %, in French', async () => {
    await portraits(words, 'dark', { dark: true });
    await portraits(words, '200', { zoomed: true });
    await portraits(french, 'fr', { language: 'fr' });
    expect((await launcher('settings', 'reset', 'Language')).code === 0, 'the language could not be reset');
    await until('the tray to speak English', async () => (await trayLines()).includes(words['tray.open_window']));
  });

  await steps.step('a shared workstation: locking signs out, closes the window, cancels what runs and leaves nothing', async () => {
    const endedBefore = issued.ended;
    expect((await launcher('sign-out', '--all')).code === 0, 'sign-out --all did not work');
    await until('the end of the session in the browser', () => issued.ended === endedBefore + 1);
    await until('the sign-out', async () => !(await status()).signed_in && (await recents()).length === 0);
    await browser.tidy();
    opened.splice(0);
    changePolicy({ SharedWorkstation: true, IdleSignOutMinutes: 5 });
    await until('the policy', async () => (await trayLines()).length > 0 && (await status()).policy.ok);
    const ended = issued.ended;
    await press(1);
    await signIn();
    await encounterOpens(encounterOf(1));
    wasOpened(encounterOf(1));
    const { memory_only: memoryOnly } = await status();
    expect(memoryOnly, 'the sign-in is kept beyond the program');
    expect(secretsIn(Buffer.from(await keyringDump()), secrets).length === 0, 'the keyring holds a token');
    await browser.tidy();
    const window = await Window.open();
    await window.shows(words['home.shared'], words['home.locks'], fill(words['home.idles'], { minutes: 5 }));
    await window.picture('home-shared');

    const [handed, before] = [browser.handed(), await noticesNow()];
    const release = door.hold();
    try {
      await press(2);
      await launchIs('creating');
      arrived();
      await desktop.lock();
      await window.gone();
      await until('the sign-out', async () => !(await status()).signed_in);
    } finally {
      release();
    }
    await until('the identity provider’s session to end', () => issued.ended === ended + 1);
    await pause(1000);
    expect(browser.tabsAt(at.nabla).length === 0, 'an encounter was opened behind the lock');
    expect(browser.handed() === handed + 1, () => `${browser.handed() - handed} pages were opened behind the lock`);
    expect((await recents()).length === 0 && running(windowProgram).length === 0, 'something is left for the next person');
    const { launch } = await status();
    expect(launch === null || launch.stage === 'cancelled', () => `the launch is ${launch.stage}`);
    await desktop.unlock();
    await noticeSaying(words['notice.signed_out'], before);
    await browser.tidy();
  });

  await steps.step('a shared workstation: who is away for long is signed out, and the next person signs in anew', async () => {
    changePolicy({ IdleSignOutMinutes: 1 });
    await press(3);
    await signIn();
    await encounterOpens(encounterOf(3));
    await browser.tidy();
    const ended = issued.ended;
    // Idle time is asked for when a limit can next be crossed: after half a minute here.
    await desktop.idle(3600);
    await until('the sign-out', async () => !(await status()).signed_in, { within: 4 * 60_000, every: 500 });
    await until('the identity provider’s session to end', () => issued.ended === ended + 1);
    await desktop.idle(0);
    const audit = await launcher('audit', 'verify');
    expect(audit.code === 0, () => `audit verify ended with ${audit.code}`);
    for (let i = 0; i < 2; i++) expect((await launcher('sign-out', '--all')).code === 0, 'a script of a badge reader is told that it failed');
    await browser.tidy();
  });

  await steps.step('still no one-time address and no token anywhere', () => searchEverything({ signedIn: false }));

  await steps.step('quit ends everything of the launcher', async () => {
    expect((await launcher('quit')).code === 0, 'quit did not work');
    await until('the agent to end', () => agents().length + running(windowProgram).length === 0);
    expect((await launcher('unregister')).code === 0, 'unregister did not work');
  });
}
