// The cases of the end-to-end test. run.sh gives it a session bus, a home of its
// own and Chromium's policy; everything else of the desktop is started here.
import { fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { copyFileSync, cpSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { BackendDoor } from './backend.mjs';
import { Browser } from './browser.mjs';
import { Desktop, screenshot, startDisplay, startKeyring, windowsTitled } from './desk.mjs';
import { filesBelow, secretsIn } from './leaks.mjs';
import { adopt, alive, argumentsOf, endAll, environmentOf, family, freePort, run, running, start } from './processes.mjs';
import { expect, pause, Steps, until, Wrong } from './steps.mjs';

const { E2E_RUN: dir, E2E_OUT: out, E2E_BIN: bin, E2E_EHR_PORT: ehrPort } = process.env;
const here = new URL('.', import.meta.url).pathname;
const words = JSON.parse(readFileSync(join(here, '../../frontend/src/words/en.json'), 'utf8'));

const people = [
  { subject: 'ada-4711', name: 'Dr. Ada Moreau', email: 'ada.moreau@hospital.example', providerID: 'SBX-PROV-ADA', key: 'ada' },
  { subject: 'ben-0815', name: 'Dr. Ben Okafor', email: 'ben.okafor@hospital.example', providerID: 'SBX-PROV-BEN', key: 'ben' },
];
const [ada] = people;
const encounterOf = (patient, who = 'ada') => `SBX-ENC-${who.toUpperCase()}-${patient}`;

// --- the world ------------------------------------------------------------------

mkdirSync(join(dir, 'logs'), { mode: 0o700 });
const log = (name) => openSync(join(dir, 'logs', `${name}.log`), 'a', 0o600);

const env = { ...process.env };
const program = join(dir, 'opt', 'encounter-launcher-demo');
const windowProgram = `${program}-window`;
const state = join(process.env.XDG_STATE_HOME, 'encounter-launcher-demo');
const socket = () => join(process.env.XDG_RUNTIME_DIR, 'encounter-launcher-demo');

/** Everything that must never be found in a file, by name. */
const secrets = new Map();
const issued = { refresh: [], access: [], revoked: 0, pages: 0, trouble: [] };
let desktop, browser, door, at;

function keepSecret(name, text) {
  if (text && ![...secrets.values()].includes(text)) secrets.set(`${name} ${secrets.size}`, text);
}

/** The secret part of a JWT: whoever has the rest of it has nothing. */
const signatureOf = (jwt) => jwt.slice(jwt.lastIndexOf('.') + 1);

function startIdentityProvider(port, audience) {
  const clientID = 'launcher-of-the-test';
  const child = adopt(fork(join(here, 'idp.mjs'), [JSON.stringify({ port, audience, clientID, people })], {
    env: process.env, stdio: ['ignore', log('idp'), log('idp'), 'ipc'],
  }));
  return new Promise((ready, refuse) => {
    child.once('exit', () => refuse(new Wrong('the identity provider did not start')));
    child.on('message', (m) => {
      if (m.event === 'ready') ready({ issuer: m.issuer, clientID });
      if (m.event === 'page') issued.pages++;
      if (m.event === 'revoked') issued.revoked++;
      if (m.event === 'trouble') issued.trouble.push(`${m.name}: ${m.text}`);
      if (m.event !== 'issued') return;
      issued.access.push(m.body.access_token);
      keepSecret('access token', signatureOf(m.body.access_token));
      if (m.body.id_token) keepSecret('ID token', signatureOf(m.body.id_token));
      if (m.body.refresh_token) {
        issued.refresh.push(m.body.refresh_token);
        keepSecret('refresh token', m.body.refresh_token);
      }
    });
  });
}

async function startWorld() {
  env.DISPLAY = await startDisplay(log('display'));
  process.env.DISPLAY = env.DISPLAY;
  start('openbox', ['--sm-disable'], { log: log('openbox'), env });
  await startKeyring(log('keyring'));
  desktop = await Desktop.start(join(dir, 'e2e-desktop'), log('desktop'));

  const [idpPort, backendPort, doorPort] = [await freePort(), await freePort(), await freePort()];
  const backend = `http://127.0.0.1:${backendPort}`;
  const { issuer, clientID } = await startIdentityProvider(idpPort, backend);
  const addresses = join(dir, 'addresses.json');
  start(join(bin, 'encounter-launcher-sandbox'), [
    '--no-launcher', '--no-browser', '--issuer', issuer, '--client-id', clientID,
    '--ehr-port', ehrPort, '--backend-port', String(backendPort), '--addresses', addresses,
  ], { log: log('sandbox'), env });
  at = await until('the sandbox', () => existsSync(addresses) && JSON.parse(readFileSync(addresses, 'utf8')));
  door = new BackendDoor(doorPort, backend);
  await door.up();

  // Installed as a package installs it: the programs beside each other.
  mkdirSync(join(dir, 'opt'), { mode: 0o755 });
  for (const file of [program, windowProgram]) copyFileSync(join(bin, file.slice(file.lastIndexOf('/') + 1)), file);
  const registered = await run(program, ['register'], { env });
  expect(registered.code === 0, () => `register ended with ${registered.code}: ${registered.err}`);

  browser = await Browser.start(env, join(dir, 'browser'));
  browser.context.on('response', async (response) => {
    if (!response.url().startsWith(`${at.ehr}/press/`)) return;
    const { link } = await response.json().catch(() => ({}));
    if (link) keepSecret('handle', new URL(link).searchParams.get('handle'));
  });
  await browser.ehr.goto(`${at.ehr}/`);
}

// --- what a person and a test can do ------------------------------------------------

const launcher = (...args) => run(program, args, { env });

async function status() {
  const { out: text } = await launcher('status', '--json');
  return JSON.parse(text);
}

/** What the agent's own policy is, as it says on the control channel. */
const agentPolicy = () => new Promise((done, refuse) => {
  const file = readdirSync(socket()).find((name) => name.endsWith('.sock'));
  if (!file) throw new Wrong('there is no control socket');
  httpRequest({ socketPath: join(socket(), file), path: '/v1/policy', headers: { host: 'encounter-launcher' } }, async (answer) => {
    let text = '';
    for await (const part of answer) text += part;
    try {
      done(Object.fromEntries(JSON.parse(text).values.map((v) => [v.key, JSON.parse(v.effective)])));
    } catch (error) {
      refuse(error);
    }
  }).on('error', refuse).end();
});

const opened = []; // encounters, newest first, as the recents should be
const openedAt = new Map();

// The launcher takes five links in ten seconds; the test stays below.
// A link arrives some time after the press, at the latest when its outcome is seen.
const pressed = [];
const arrived = () => pressed.forEach((p) => {
  p.at = p.seen ? p.at : Date.now();
  p.seen = true;
});

async function underTheLimit() {
  const recent = pressed.filter((p) => Date.now() - p.at < 10_100);
  if (recent.length >= 5) await pause(recent.at(-5).at + 10_100 - Date.now());
  pressed.push({ at: Date.now(), seen: false });
}

async function press(button, { clinician = 'ada', again = false } = {}) {
  await underTheLimit();
  // Another link for what was opened a moment ago opens nothing, by design.
  const since = Date.now() - (openedAt.get(encounterOf(button, clinician)) ?? 0);
  if (!again && since < 3200) await pause(3200 - since);
  await browser.ehr.bringToFront();
  await browser.ehr.selectOption('#clinician', clinician);
  await browser.ehr.locator(`[data-button="${button}"]`).click();
}

/** Waits for the page of an encounter in a tab, and that there is one only. */
async function encounterOpens(encounter) {
  const tab = await browser.tabAt(at.nabla, 'main');
  const shown = await tab.locator('main').getAttribute('data-encounter');
  expect(shown === encounter, () => `the tab shows ${shown ?? 'a refusal'}, not ${encounter}`);
  expect((await tab.locator('main').innerText()).includes(ada.email), 'the page does not say for whom it is');
  await launchIs('opened');
  arrived();
  expect(browser.tabsAt(at.nabla).length === 1, () => `${browser.tabsAt(at.nabla).length} tabs were opened`);
  return tab;
}

/** Waits until the last launch is at a stage, with a code. */
const launchIs = (stage, code = '') => {
  let seen = '';
  return until(`the launch to be ${stage} ${code}`, async () => {
    const { launch } = await status();
    seen = `it is ${launch?.stage} ${launch?.code}`;
    if (launch?.stage === stage && launch.code === code) return launch;
    throw new Wrong(seen);
  });
};

const lastLaunch = async () => (await status()).launch?.id;

/** Waits for a launch that is not the one before and fails with a code; a notice says so. */
async function isRefused(code, noticesBefore, launchBefore) {
  const launch = await until(`a new launch that fails with ${code}`, async () => {
    const { launch: now } = await status();
    if (!now || now.id === launchBefore) throw new Wrong('no new launch');
    if (now.stage === 'failed' && now.code === code) return now;
    throw new Wrong(`it is ${now.stage} ${now.code}`);
  });
  arrived();
  const notice = await until('the notice', async () => (await desktop.notices()).find((n) => !noticesBefore.includes(n.id + n.summary + n.body)));
  const text = `${notice.summary}\n${notice.body}`;
  expect(text.includes(words[`problem.${code}.sentence`]), () => `the notice says ${JSON.stringify(text)}`);
  expect(text.includes(launch.reference), () => `the notice does not name the reference: ${JSON.stringify(text)}`);
  return notice;
}

const noticesNow = async () => (await desktop.notices()).map((n) => n.id + n.summary + n.body);

/** What cannot be awaited: that nothing is opened. */
async function nothingOpened(handedBefore, tabs = 0) {
  await pause(1000);
  expect(browser.handed() === handedBefore, 'something was opened');
  expect(browser.tabsAt(at.nabla).length === tabs, 'a tab was opened');
}

const agents = () => running(program);
const flat = (lines) => lines.flatMap((line) => [line, ...flat(line.children ?? [])]);

/** Clicks a line of the tray's menu, by what it says. */
async function trayClick(what, matches) {
  const line = await until(`${what} in the tray`, async () => flat(await desktop.menu()).find((l) => l.enabled && matches(l.label)));
  await desktop.click(line.id);
  return line;
}

const windowShows = (pid, ...texts) => until(`the window to show ${texts.join(', ')}`, async () => {
  const shown = (await desktop.read(pid)).map((s) => `${s.name}\n${s.text ?? ''}`).join('\n');
  const missing = texts.filter((text) => !shown.includes(text));
  if (missing.length) throw new Wrong(`it does not show ${missing.join(', ')} but ${JSON.stringify(shown.replace(/\n+/g, ' ').slice(0, 600))}`);
  return true;
});

const picture = (name) => join(out, `${name}.png`);

// --- the cases ----------------------------------------------------------------------

const began = Date.now();
const steps = new Steps(async (name, since) => {
  const file = picture(`failed-${name.replace(/[^a-z0-9]+/gi, '-').slice(0, 50).toLowerCase()}`);
  await screenshot(file);
  console.log(`      picture: ${file}`);
  const notices = (await desktop?.notices().catch(() => [])) ?? [];
  for (const n of notices.slice(-1)) console.log(`      notice: ${n.summary} | ${n.body}`);
  for (const t of issued.trouble.slice(-3)) console.log(`      identity provider: ${t}`);
  const logFile = join(state, 'agent.log');
  if (existsSync(logFile)) {
    const lines = readFileSync(logFile, 'utf8').split('\n').filter((line) => Date.parse(line.match(/"time":"([^"]+)"/)?.[1]) >= since);
    for (const line of lines.slice(-8)) console.log(`      agent: ${line}`);
  }
  await browser?.tidy();
});
function wasOpened(encounter) {
  openedAt.set(encounter, Date.now());
  const i = opened.indexOf(encounter);
  if (i >= 0) opened.splice(i, 1);
  opened.unshift(encounter);
}

async function cases() {
  let up = false;
  await steps.step('the desktop stands: display, bus, keyring, browser, identity provider, backend, and the launcher installed', async () => {
    await startWorld();
    expect((await status()).agent === 'absent', 'an agent runs before anything was clicked');
    await browser.ehr.screenshot({ path: picture('ehr') });
    up = true;
  });
  if (!up) return;

  await steps.step('a changed policy is in force without a restart', async () => {
    start(program, ['agent'], { log: log('agent-output'), env, cwd: '/' });
    await until('the agent', async () => (await status()).agent === 'running');
    const file = join(state, 'sandbox', 'policy.json');
    const policy = JSON.parse(readFileSync(file, 'utf8'));
    expect((await agentPolicy()).BackendURL === at.backend, 'the agent has another backend than its policy says');
    // By OpenID Connect Core §11 a provider gives offline_access only with this prompt.
    Object.assign(policy, { BackendURL: door.url, OIDCPrompt: 'consent' });
    writeFileSync(`${file}.next`, JSON.stringify(policy), { mode: 0o600 });
    renameSync(`${file}.next`, file);
    await until('the new policy', async () => (await agentPolicy()).BackendURL === door.url);
    expect((await status()).policy.ok, 'the new policy is not good');
  });

  await steps.step('signed out: the click leads to the sign-in page, and then the encounter opens by itself', async () => {
    await press(1);
    const page = await browser.tabAt(at.issuer, 'button');
    await launchIs('signing_in');
    await page.screenshot({ path: picture('sign-in') });
    await page.getByRole('button', { name: ada.name }).click();
    const tab = await encounterOpens(encounterOf(1));
    await tab.screenshot({ path: picture('encounter') });
    wasOpened(encounterOf(1));
    await page.screenshot({ path: picture('signed-in') });
    const { person, memory_only: memoryOnly } = await status();
    expect(person?.email === ada.email, () => `signed in is ${JSON.stringify(person)}`);
    expect(!memoryOnly, 'the sign-in is not in the keyring');
    expect(issued.pages === 1, () => `${issued.pages} sign-in pages were shown`);
    await browser.tidy();
  });

  await steps.step('cold start by link: no agent runs, the keyring knows who it is, the encounter opens', async () => {
    const quit = await launcher('quit');
    expect(quit.code === 0, () => `quit ended with ${quit.code}: ${quit.err}`);
    await until('the agent to end', () => agents().length === 0);
    const refreshed = issued.refresh.length;
    await press(2);
    await encounterOpens(encounterOf(2));
    wasOpened(encounterOf(2));
    expect(agents().length === 1, () => `${agents().length} processes of the launcher run`);
    expect(issued.pages === 1, 'somebody was asked to sign in again');
    expect(issued.refresh.length === refreshed + 1, 'the refresh token was not rotated once');
    await browser.tidy();
  });

  await steps.step('link while running: the same agent opens it', async () => {
    const [before] = agents();
    await press(3);
    await encounterOpens(encounterOf(3));
    wasOpened(encounterOf(3));
    expect(agents().length === 1 && agents()[0] === before, 'another agent answered');
    await browser.tidy();
  });

  await steps.step('double press: two links, one tab', async () => {
    const [calls, handed] = [door.calls.length, browser.handed()];
    const created = () => door.calls.slice(calls).filter((c) => c.path.endsWith('/encounters'));
    await press(1);
    // Chromium itself swallows a second press before it has handed over the first link.
    await until('the first link to arrive', () => created().length === 1, { every: 5 });
    await press(1, { again: true });
    await until('the backend to have answered both', () => created().filter((c) => c.status === 200).length === 2);
    await encounterOpens(encounterOf(1));
    wasOpened(encounterOf(1));
    await nothingOpened(handed + 1, 1);
    await browser.tidy();
  });

  await steps.step('spent handle: refused with a notice, nothing opens', async () => {
    const [notices, before, handed] = [await noticesNow(), await lastLaunch(), browser.handed()];
    // Somebody else was faster: the handle is redeemed between the press and the link.
    await browser.ehr.route('**/press/2', async (route) => {
      const answer = await route.fetch();
      const { link } = await answer.json();
      const redeemed = await fetch(`${at.backend}/encounters`, {
        method: 'POST', body: JSON.stringify({ handle: new URL(link).searchParams.get('handle') }),
        headers: { authorization: `Bearer ${issued.access.at(-1)}`, 'content-type': 'application/json', 'idempotency-key': randomUUID(), 'x-request-id': randomUUID() },
      });
      if (redeemed.status !== 200) return route.abort();
      return route.fulfill({ response: answer });
    });
    await press(2);
    await isRefused('handle_spent', notices, before);
    await browser.ehr.unroute('**/press/2');
    await nothingOpened(handed);
  });

  await steps.step('expired handle: refused with a notice, nothing opens', async () => {
    const [notices, before, handed] = [await noticesNow(), await lastLaunch(), browser.handed()];
    await press('stale');
    await isRefused('handle_expired', notices, before);
    await nothingOpened(handed);
  });

  await steps.step('bad arguments: exit status 2, one sentence, no side effect', async () => {
    const [before, handed] = [await lastLaunch(), browser.handed()];
    const handle = 'A'.repeat(32);
    for (const args of [
      ['encounter-launcher-demo://launch?handle=short'],
      [`encounter-launcher-demo://launch?handle=${handle}`, '--anything'],
      [`encounter-launcher-demo://launch?handle=${handle}&server=https://elsewhere.example`],
    ]) {
      const { code, out: said, err } = await launcher(...args);
      expect(code === 2, () => `ended with ${code}`);
      expect(err.includes(words['problem.link_invalid.sentence']), () => `it said ${JSON.stringify(err)}`);
      expect(!err.includes(handle) && !said.includes(handle) && !err.includes('elsewhere'), 'it repeated the link');
    }
    expect((await launcher('check-link', 'encounter-launcher-demo://launch?handle=short')).code === 1, 'check-link does not refuse');
    expect((await lastLaunch()) === before, 'there was a launch');
    expect(browser.handed() === handed, 'something was opened');
  });

  await steps.step('backend down: a notice; up again and retried from the notice: the encounter opens', async () => {
    const [notices, before, handed] = [await noticesNow(), await lastLaunch(), browser.handed()];
    await door.down();
    await press(2);
    const notice = await isRefused('org_unreachable', notices, before);
    expect(browser.handed() === handed, 'something was opened');
    expect(notice.actions.includes('retry'), () => `the notice offers ${JSON.stringify(notice.actions)}`);
    await door.up();
    await desktop.act(notice.id, 'retry');
    await encounterOpens(encounterOf(2));
    wasOpened(encounterOf(2));
    await browser.tidy();
  });

  await steps.step('wrong clinician: refused by the backend, nothing opens, nothing said of the patient', async () => {
    const [notices, before, handed] = [await noticesNow(), await lastLaunch(), browser.handed()];
    await press(3, { clinician: 'ben' });
    const notice = await isRefused('provider_mismatch', notices, before);
    expect(!/Fictima|Mockingham|SBX/.test(notice.body), 'the notice names the patient');
    await nothingOpened(handed);
  });

  await steps.step('reopen a recent from the tray, over the bus', async () => {
    const time = /^(\S+ )?\d?\d:\d\d( [AP]M)? · /;
    const recents = () => desktop.menu().then((menu) => flat(menu).filter((l) => l.enabled && time.test(l.label)));
    const list = await until('the recents in the tray', async () => {
      const found = await recents();
      return found.length === opened.length && found;
    });
    // A line that has just moved opens nothing.
    await pause(2200);
    const calls = door.calls.length;
    await desktop.click(list.at(-1).id);
    await encounterOpens(opened.at(-1));
    wasOpened(opened.at(-1));
    const asked = door.calls.slice(calls).map((c) => c.path);
    expect(asked.length === 1 && asked[0].endsWith('/encounters/url'), () => `the backend was asked for ${asked.join(', ')}`);
    await browser.tidy();
  });

  await steps.step('the window opens, shows the launch and the problem, and is gone from memory when closed', async () => {
    await trayClick('the window', (label) => label === words['tray.open_window']);
    // There is no host that would show the menu, so it is kept as text.
    writeFileSync(join(out, 'tray.txt'), flat(await desktop.menu()).map((l) => `${l.enabled ? '' : '· '}${l.label || '---'}\n`).join(''));
    const [pid] = await until('the window', async () => (await windowsTitled('^Encounter Launcher$')).length === 1 && running(windowProgram).length && running(windowProgram));
    const [id] = await windowsTitled('^Encounter Launcher$');
    await run('xdotool', ['windowmove', '--sync', id, '760', '120']);
    await windowShows(pid, ada.email, words['recents.heading']);
    await screenshot(picture('screen-home'));
    await screenshot(picture('window-home'), id);

    const release = door.hold();
    try {
      await press(1);
      await windowShows(pid, words['launching.heading'], words['stage.creating'], words['launching.cancel']);
      await run('xdotool', ['windowactivate', '--sync', id]);
      await screenshot(picture('window-launching'), id);
    } finally {
      release();
    }
    await encounterOpens(encounterOf(1));
    wasOpened(encounterOf(1));
    await windowShows(pid, words['last.opened'].split(' {')[0]);
    await browser.tidy();

    const [notices, before] = [await noticesNow(), await lastLaunch()];
    await press('stale');
    await isRefused('handle_expired', notices, before);
    await windowShows(pid, words['problem.handle_expired.sentence'], words['problem.handle_expired.next']);
    await run('xdotool', ['windowactivate', '--sync', id]);
    await screenshot(picture('window-problem'), id);

    writeFileSync(join(out, 'notices.txt'), (await desktop.notices()).map((n) => `${n.summary}\n${n.body}\n[${n.actions.join(' | ')}]\n\n`).join(''));
    const members = family(pid);
    expect(members.some((p) => /WebKit/i.test(p.exe)), () => `the window has no web process: ${members.map((p) => p.exe).join(', ')}`);
    await searchProcesses(members.map((p) => p.pid));
    await run('xdotool', ['windowactivate', '--sync', id, 'key', '--clearmodifiers', 'alt+F4']);
    await until('every process of the window to end', () => members.every((p) => !alive(p.pid)));
    expect(running(windowProgram).length === 0, 'a window is still in memory');
    expect(agents().length === 1, 'the agent did not outlive the window');
  });

  await steps.step('the audit is whole and holds every launch', async () => {
    const verified = await launcher('audit', 'verify', '--json');
    expect(verified.code === 0, () => `audit verify ended with ${verified.code}: ${verified.out}`);
    const lines = filesBelow(join(state, 'audit')).filter((f) => f.path.endsWith('.jsonl'))
      .flatMap((f) => f.bytes.toString().trim().split('\n')).map((line) => JSON.parse(line));
    const text = lines.map((line) => JSON.stringify(line));
    const missing = [...new Set(door.calls.map((c) => c.requestID))].filter((id) => !text.some((line) => line.includes(id)));
    expect(missing.length === 0, () => `the audit lacks ${missing.length} of ${door.calls.length} calls`);
    const count = (outcome, code) => lines.filter((l) => l.outcome === outcome && (!code || l.code === code)).length;
    for (const [outcome, code, least] of [
      ['signed_in', '', 1], ['opened', '', 7], ['dropped', '', 1], ['failed', 'handle_spent', 1], ['failed', 'handle_expired', 2],
      ['failed', 'org_unreachable', 1], ['failed', 'provider_mismatch', 1], ['refused', 'link_invalid', 1], ['started', '', 2], ['stopped', '', 1],
    ]) expect(count(outcome, code) >= least, () => `the audit holds ${count(outcome, code)} × ${outcome} ${code}, not ${least}; it has ${[...new Set(lines.map((l) => `${l.outcome} ${l.code ?? ''}`))].join(', ')}`);
    expect(!text.some((line) => /SBX-|Samplewell|Placeholder|Mockingham/.test(line)), 'the audit names a patient');
  });

  await steps.step('no one-time address and no token anywhere but in the keyring', searchEverything);

  await steps.step('signing out takes the sign-in back at the identity provider and empties the keyring', async () => {
    const { code, err } = await launcher('sign-out');
    expect(code === 0, () => `sign-out ended with ${code}: ${err}`);
    await until('the revocation', () => issued.revoked > 0);
    const found = secretsIn(Buffer.from(await keyringDump()), secrets);
    expect(found.length === 0, () => `the keyring still holds ${found.join(', ')}`);
    expect(!(await status()).signed_in, 'still signed in');
  });

  await steps.step('quit ends everything of the launcher', async () => {
    const { code } = await launcher('quit');
    expect(code === 0, () => `quit ended with ${code}`);
    await until('the agent to end', () => agents().length === 0);
    const gone = await launcher('unregister');
    expect(gone.code === 0, () => `unregister ended with ${gone.code}: ${gone.err}`);
    const asked = await run('xdg-mime', ['query', 'default', 'x-scheme-handler/encounter-launcher-demo'], { env });
    expect(asked.out.trim() === '', () => `the scheme still belongs to ${asked.out}`);
  });
}

// --- looking for leaks ---------------------------------------------------------------

const keyringDump = async () => {
  const { out: text, err } = await run('secret-tool', ['search', '--all', '--unlock', 'service', 'encounter-launcher-demo'], { env });
  return text + err;
};

async function searchProcesses(pids) {
  for (const pid of pids) {
    const found = secretsIn(Buffer.from(argumentsOf(pid) + environmentOf(pid)), secrets);
    expect(found.length === 0, () => `process ${pid} carries ${found.join(', ')}`);
  }
}

async function searchEverything() {
  door.addresses.forEach((address) => keepSecret('one-time address', new URL(address).pathname.split('/').at(-1)));
  const kinds = (kind) => [...secrets.keys()].filter((name) => name.startsWith(kind)).length;
  for (const kind of ['one-time address', 'access token', 'refresh token', 'ID token', 'handle']) expect(kinds(kind) > 0, `the test knows no ${kind}`);

  const dump = secretsIn(Buffer.from(await keyringDump()), secrets);
  const current = [...secrets].find(([, text]) => text === issued.refresh.at(-1))[0];
  expect(dump.includes(current), 'the refresh token is not found in the keyring: this search proves nothing');
  expect(dump.length === 1, () => `the keyring also holds ${dump.filter((name) => name !== current).join(', ')}`);

  // The search must be able to find something.
  const planted = join(process.env.TMPDIR, 'planted');
  writeFileSync(planted, Buffer.from(`a ${issued.access.at(-1)} z`).toString('base64'));
  expect(secretsIn(readFileSync(planted), secrets).length === 1, 'the search does not find what was planted');
  rmSync(planted);

  const wrong = [];
  let looked = 0;
  const own = (path) => path.startsWith(join(process.env.XDG_RUNTIME_DIR, 'keyring'));
  for (const root of [process.env.HOME, process.env.XDG_RUNTIME_DIR, process.env.TMPDIR, join(dir, 'logs')]) {
    for (const { path, bytes, mode } of filesBelow(root, own)) {
      looked++;
      for (const name of secretsIn(bytes, secrets)) wrong.push(`${path}: ${name}`);
      if (path.includes('/encounter-launcher-demo/') && (mode & 0o077) !== 0 && (mode & 0o170000) === 0o100000) wrong.push(`${path}: open to others (${(mode & 0o777).toString(8)})`);
    }
  }
  expect(wrong.length === 0, () => wrong.join('\n'));
  expect(existsSync(join(state, 'agent.log')) && looked > 10, 'the files of the launcher are not where the test looks');
  await searchProcesses(agents());
}

// --- the run ---------------------------------------------------------------------------

console.log('End to end, on a desktop of its own:');
let trouble;
try {
  await cases();
} catch (error) {
  trouble = error;
} finally {
  await browser?.close().catch(() => {});
  for (const pid of [...agents(), ...running(windowProgram)]) process.kill(pid, 'SIGTERM');
  await until('the launcher to end', () => agents().length + running(windowProgram).length === 0, { within: 10_000 }).catch(() => {
    for (const pid of [...agents(), ...running(windowProgram)]) process.kill(pid, 'SIGKILL');
  });
  await endAll();
}
if (trouble) {
  steps.failed++;
  console.log(`  ✗ ${trouble.stack}`);
}
if (steps.failed) {
  cpSync(join(dir, 'logs'), join(out, 'logs'), { recursive: true });
  if (existsSync(join(state, 'agent.log'))) copyFileSync(join(state, 'agent.log'), join(out, 'logs', 'agent.log'));
  console.log(`What every part said is in ${join(out, 'logs')}.`);
}
console.log(`Pictures in ${out}; ${((Date.now() - began) / 1000).toFixed(0)} s.`);
console.log(`${steps.passed} passed, ${steps.failed} failed`);
process.exit(steps.failed === 0 ? 0 : 1);
