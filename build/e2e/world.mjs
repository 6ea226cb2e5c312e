// The world of the end-to-end test: the desktop, the identity provider, the backend
// and the installed launcher, what a person and a test can do in it, and the search
// for what must be nowhere. run.sh gives it a session bus, a home of its own and
// Chromium's policy; everything else is started here.
import { fork } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { BackendDoor } from './backend.mjs';
import { Browser } from './browser.mjs';
import { Desktop, screenshot, startDisplay, startKeyring, startSystemBus } from './desk.mjs';
import { filesBelow, secretsIn } from './leaks.mjs';
import { adopt, argumentsOf, environmentOf, freePort, run, running, start } from './processes.mjs';
import { expect, pause, Steps, until, Wrong } from './steps.mjs';

export const { E2E_RUN: dir, E2E_OUT: out, E2E_BIN: bin, E2E_EHR_PORT: ehrPort } = process.env;
const here = new URL('.', import.meta.url).pathname;
export const words = JSON.parse(readFileSync(join(here, '../../frontend/src/words/en.json'), 'utf8'));

export const people = [
  { subject: 'ada-4711', name: 'Dr. Ada Moreau', email: 'ada.moreau@hospital.example', providerID: 'SBX-PROV-ADA', key: 'ada' },
  { subject: 'ben-0815', name: 'Dr. Ben Okafor', email: 'ben.okafor@hospital.example', providerID: 'SBX-PROV-BEN', key: 'ben' },
];
export const [ada] = people;
export const encounterOf = (patient, who = 'ada') => `SBX-ENC-${who.toUpperCase()}-${patient}`;

// --- the world ------------------------------------------------------------------

mkdirSync(join(dir, 'logs'), { mode: 0o700 });
export const log = (name) => openSync(join(dir, 'logs', `${name}.log`), 'a', 0o600);

export const env = { ...process.env };
export const program = join(dir, 'opt', 'encounter-launcher-demo');
export const windowProgram = `${program}-window`;
export const state = join(process.env.XDG_STATE_HOME, 'encounter-launcher-demo');
export const socket = () => join(process.env.XDG_RUNTIME_DIR, 'encounter-launcher-demo');

/** Everything that must never be found in a file, by name. */
export const secrets = new Map();
export const issued = { refresh: [], access: [], revoked: 0, ended: 0, pages: 0, asked: null, trouble: [] };
export let desktop, browser, door, at;

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
      if (m.event === 'page') {
        issued.pages++;
        issued.asked = m.params;
      }
      if (m.event === 'revoked') issued.revoked++;
      if (m.event === 'ended') issued.ended++;
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

export async function startWorld() {
  env.DISPLAY = await startDisplay(log('display'));
  process.env.DISPLAY = env.DISPLAY;
  start('openbox', ['--sm-disable'], { log: log('openbox'), env });
  await startKeyring(log('keyring'));
  // logind is on a system bus of the run's own: the computer's is left alone.
  env.DBUS_SYSTEM_BUS_ADDRESS = process.env.E2E_SYSTEM_BUS_ADDRESS = await startSystemBus(dir, log('system-bus'));
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

export const launcher = (...args) => run(program, args, { env });

export async function status() {
  const { out: text } = await launcher('status', '--json');
  return JSON.parse(text);
}

/** What the agent's own policy is, as it says on the control channel. */
export const agentPolicy = () => new Promise((done, refuse) => {
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

/** Sets keys of the organisation's policy; undefined takes one out. */
export function changePolicy(changes) {
  const file = join(state, 'sandbox', 'policy.json');
  const policy = Object.assign(JSON.parse(readFileSync(file, 'utf8')), changes);
  writeFileSync(`${file}.next`, JSON.stringify(policy), { mode: 0o600 });
  renameSync(`${file}.next`, file);
}

export const opened = []; // encounters, newest first, as the recents should be
export const openedAt = new Map();

// The launcher takes five links in ten seconds; the test stays below.
// A link arrives some time after the press, at the latest when its outcome is seen.
const pressed = [];
export const arrived = () => pressed.forEach((p) => {
  p.at = p.seen ? p.at : Date.now();
  p.seen = true;
});

async function underTheLimit() {
  const recent = pressed.filter((p) => Date.now() - p.at < 10_100);
  if (recent.length >= 5) await pause(recent.at(-5).at + 10_100 - Date.now());
  pressed.push({ at: Date.now(), seen: false });
}

export async function press(button, { clinician = 'ada', again = false } = {}) {
  await underTheLimit();
  // Another link for what was opened a moment ago opens nothing, by design.
  const since = Date.now() - (openedAt.get(encounterOf(button, clinician)) ?? 0);
  if (!again && since < 3200) await pause(3200 - since);
  await browser.ehr.bringToFront();
  await browser.ehr.selectOption('#clinician', clinician);
  await browser.ehr.locator(`[data-button="${button}"]`).click();
}

/** Waits for the page of an encounter in a tab, and that there is one only. */
export async function encounterOpens(encounter) {
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
export const launchIs = (stage, code = '') => {
  let seen = '';
  return until(`the launch to be ${stage} ${code}`, async () => {
    const { launch } = await status();
    seen = `it is ${launch?.stage} ${launch?.code}`;
    if (launch?.stage === stage && launch.code === code) return launch;
    throw new Wrong(seen);
  });
};

export const lastLaunch = async () => (await status()).launch?.id;

/** Waits for a launch that is not the one before and fails with a code; a notice says so. */
export async function isRefused(code, noticesBefore, launchBefore) {
  const launch = await until(`a new launch that fails with ${code}`, async () => {
    const { launch: now } = await status();
    if (!now || now.id === launchBefore) throw new Wrong('no new launch');
    if (now.stage === 'failed' && now.code === code) return now;
    throw new Wrong(`it is ${now.stage} ${now.code}`);
  });
  arrived();
  const notice = await until('the notice', async () => (await desktop.notices())
    .find((n) => !noticesBefore.includes(n.id + n.summary + n.body) && !n.body.includes(words['notice.slow']))); // which may come first
  const text = `${notice.summary}\n${notice.body}`;
  expect(text.includes(words[`problem.${code}.sentence`]), () => `the notice says ${JSON.stringify(text)}`);
  expect(text.includes(launch.reference), () => `the notice does not name the reference: ${JSON.stringify(text)}`);
  return notice;
}

export const noticesNow = async () => (await desktop.notices()).map((n) => n.id + n.summary + n.body);

/** What cannot be awaited: that nothing is opened. */
export async function nothingOpened(handedBefore, tabs = 0) {
  await pause(1000);
  expect(browser.handed() === handedBefore, 'something was opened');
  expect(browser.tabsAt(at.nabla).length === tabs, 'a tab was opened');
}

export const agents = () => running(program);
export const flat = (lines) => lines.flatMap((line) => [line, ...flat(line.children ?? [])]);

/** Clicks a line of the tray's menu, by what it says. */
export async function trayClick(what, matches) {
  const line = await until(`${what} in the tray`, async () => flat(await desktop.menu()).find((l) => l.enabled && matches(l.label)));
  await desktop.click(line.id);
  return line;
}

export const windowShows = (pid, ...texts) => until(`the window to show ${texts.join(', ')}`, async () => {
  const shown = (await desktop.read(pid)).map((s) => `${s.name}\n${s.text ?? ''}`).join('\n');
  const missing = texts.filter((text) => !shown.includes(text));
  if (missing.length) throw new Wrong(`it does not show ${missing.join(', ')} but ${JSON.stringify(shown.replace(/\n+/g, ' ').slice(0, 600))}`);
  return true;
});

export const picture = (name) => join(out, `${name}.png`);

// --- the steps ----------------------------------------------------------------------

/** Every part of the test counts in these. */
export const steps = new Steps(async (name, since) => {
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
export function wasOpened(encounter) {
  openedAt.set(encounter, Date.now());
  const i = opened.indexOf(encounter);
  if (i >= 0) opened.splice(i, 1);
  opened.unshift(encounter);
}

// --- looking for leaks ---------------------------------------------------------------

export const keyringDump = async () => {
  const { out: text, err } = await run('secret-tool', ['search', '--all', '--unlock', 'service', 'encounter-launcher-demo'], { env });
  return text + err;
};

export async function searchProcesses(pids) {
  for (const pid of pids) {
    const found = secretsIn(Buffer.from(argumentsOf(pid) + environmentOf(pid)), secrets);
    expect(found.length === 0, () => `process ${pid} carries ${found.join(', ')}`);
  }
}

export async function searchEverything({ signedIn = true } = {}) {
  door.addresses.forEach((address) => keepSecret('one-time address', new URL(address).pathname.split('/').at(-1)));
  const kinds = (kind) => [...secrets.keys()].filter((name) => name.startsWith(kind)).length;
  for (const kind of ['one-time address', 'access token', 'refresh token', 'ID token', 'handle']) expect(kinds(kind) > 0, `the test knows no ${kind}`);

  const dump = secretsIn(Buffer.from(await keyringDump()), secrets);
  if (signedIn) {
    const current = [...secrets].find(([, text]) => text === issued.refresh.at(-1))[0];
    expect(dump.includes(current), 'the refresh token is not found in the keyring: this search proves nothing');
    dump.splice(dump.indexOf(current), 1);
  }
  expect(dump.length === 0, () => `the keyring also holds ${dump.join(', ')}`);

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

