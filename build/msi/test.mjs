// Tries the MSI as IT and a clinician use it, in a Windows of its own: install, look, press, press
// again, repair, change, upgrade, refused downgrade, uninstall; and that nothing is left. First the
// release, then the demo from the same description, whose agent can reach a backend here: it goes
// the whole way from the link to the browser.
import { chmodSync, copyFileSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { alive, endAll, freePort, run, start } from '../e2e/processes.mjs';
import { expect, pause, Steps, until } from '../e2e/steps.mjs';
import { bits, difference, disk, drive, prefix, registry, running, started, timed, unix, wine } from './windows.mjs';

const here = new URL('.', import.meta.url).pathname;
const { MSI_OLD: oldFolder, MSI_NEW: newFolder, MSI_OLD_VERSION: oldVersion, MSI_NEW_VERSION: newVersion, MSI_SANDBOX: sandbox } = process.env;
const home = process.env.HOME;
const msi = (folder, name, version) => join(folder, `${name}_${version}_x64.msi`);
const windowsPath = (path) => `Z:${path.replaceAll('/', '\\')}`;

/** Statuses of Windows Installer. */
const failed = bits(1603);

const msiexec = (...args) => timed(['msiexec', ...args]);
const installs = (said) => expect(said.code === 0, () => `msiexec ended with ${said.code}: ${said.out}${said.err}`);

const users = join(drive, 'users');
const user = readdirSync(users).find((name) => name !== 'Public');
const local = join(users, user, 'AppData/Local');

// --- the browser: a script that stands where the system's opener would ------------------

const bin = join(home, 'bin');
const visits = join(home, 'visited');
mkdirSync(bin);
writeFileSync(join(bin, 'xdg-open'), `#!/bin/sh\nexec '${process.execPath}' '${join(here, 'browser.mjs')}' '${visits}' "$1"\n`);
chmodSync(join(bin, 'xdg-open'), 0o755);
process.env.PATH = `${bin}:${process.env.PATH}`;
const visited = () => (existsSync(visits) ? readFileSync(visits, 'utf8').split('\n').filter(Boolean) : []);

// --- what is the same for both flavours --------------------------------------------------

const steps = new Steps(async () => {
  for (const log of [join(local, 'EncounterLauncher/agent.log'), join(local, 'EncounterLauncherDemo/agent.log')]) {
    if (existsSync(log)) console.log(readFileSync(log, 'utf8').split('\n').slice(-6).map((line) => `      ${line}`).join('\n'));
  }
});
const step = (name, go) => steps.step(name, go, { within: 240_000 });

class Product {
  constructor(name, title, key) {
    Object.assign(this, { name, title, key });
    this.folder = `C:\\Program Files\\${title}`;
    this.exe = `${this.folder}\\${name}.exe`;
    this.com = `${this.folder}\\${name}.com`;
    this.state = join(local, key);
  }

  /** The product code of a version, as IT sees it. */
  async code(folder, version) {
    const said = await run('msiinfo', ['export', msi(folder, this.name, version), 'Property']);
    return said.out.match(/^ProductCode\t(\{[0-9A-F-]+\})\r?$/m)[1];
  }

  old() { return windowsPath(msi(oldFolder, this.name, oldVersion)); }
  new() { return windowsPath(msi(newFolder, this.name, newVersion)); }
  agents() { return running(`${this.name}.exe`, 'agent'); }
  say(...args) { return wine([this.com, ...args]); }

  async answer(...args) {
    const said = await this.say(...args, '--json');
    return JSON.parse(said.out);
  }

  /** Opens an address as a browser or an EHR does, by the registered handler. */
  open(address) { return wine(['start', '/wait', address]); }

  audit() {
    const folder = join(this.state, 'audit');
    if (!existsSync(folder)) return [];
    return readdirSync(folder).filter((file) => file.endsWith('.jsonl')).flatMap((file) => readFileSync(join(folder, file), 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line)));
  }

  /** How many refusals the audit knows: many in a short time are one line with a count. */
  refused() {
    const flood = join(this.state, 'audit/handler.flood');
    const waiting = existsSync(flood) ? JSON.parse(readFileSync(flood, 'utf8')).reduce((sum, { pending }) => sum + pending, 0) : 0;
    return this.audit().filter(({ outcome }) => outcome === 'refused').reduce((sum, { count }) => sum + (count || 1), waiting);
  }

  /** The registry's values below a key of the computer, by name. */
  async values(key) {
    const all = await registry();
    return [...all].filter(([name]) => name.toLowerCase().startsWith(`hkey_local_machine\\${key} `.toLowerCase()))
      .map(([name, text]) => [name.slice(name.indexOf(' "') >= 0 ? name.indexOf(' "') + 2 : name.length - 1).replace(/"$/, ''), text]);
  }

  /**
   * What an uninstall may leave: the users' own (the keyring, what the program keeps for them, their start at logon), and
   * what Wine and its Windows Installer leave behind, whatever is installed.
   */
  except(line) {
    const [kind, rest] = [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)];
    const own = [
      `${users}/${user}/Temp/systray_temp_icon_`, // what the tray has drawn
      `${this.state}`, // log, audit, recents, settings of each user
      `HKEY_CURRENT_USER\\Software\\Microsoft\\Windows\\CurrentVersion\\Run "${this.name}"`, // the person's choice
      `HKEY_CURRENT_USER\\Software\\Classes\\AppUserModelId\\${this.name}`, // the name under which toasts are shown
      'HKEY_CURRENT_USER\\Software\\Wine\\Credential Manager', // the keyring
    ];
    // regedit shows HKCU a second time below the user's SID.
    const me = rest.replace(/^HKEY_USERS\\S-1-5-21-[\d-]+(?=\\)/, 'HKEY_CURRENT_USER');
    if (kind !== 'gone' && own.some((name) => me.startsWith(name))) return true;
    // The keys above that of the toasts, empty.
    if (kind === 'new' && /^HKEY_CURRENT_USER\\Software\\Classes(\\AppUserModelId)? $/.test(me)) return true;
    const ofWine = [
      // The devices that Wine finds when it starts, and the screen of the session.
      /^(new|changed|gone): HKEY_LOCAL_MACHINE\\(System\\(CurrentControlSet|ControlSet001)\\(Enum|Control\\(Class|DeviceClasses|Video|GraphicsDrivers|ServiceCurrent)|Hardware Profiles)|Hardware)\b/i,
      /^(new|changed|gone): HKEY_CURRENT_CONFIG\\/i,
      /^(new|changed|gone): HKEY_(CURRENT_USER|USERS\\[\w-]+)\\Software\\Wine\\Temporary System Parameters\\/i,
      /^new: HKEY_LOCAL_MACHINE\\Software\\Microsoft\\Windows\\CurrentVersion "Users" "%SystemDrive%\\\\Users"$/i,
      // Windows Installer takes a key away with its last value; a fresh Wine has nothing else there.
      /^gone: HKEY_LOCAL_MACHINE\\Software\\Microsoft\\Windows\\CurrentVersion\\Run$/i,
      // The keys in which Windows Installer keeps what it knows of products, empty.
      /^new: HKEY_LOCAL_MACHINE\\Software\\(Classes\\Installer(\\(Features|Products|UpgradeCodes))?|Microsoft\\Windows\\CurrentVersion\\Installer\\(UpgradeCodes|UserData(\\S-1-5-18(\\(Components|Products))?)?)) $/i,
      // Where Windows Installer keeps the packages; what is in it counts.
      /^new: \S*\/drive_c\/windows\/Installer folder$/,
      // Wine's Windows Installer takes our folder out of PATH and leaves the semicolon.
      /^changed: HKEY_LOCAL_MACHINE\\System\\(CurrentControlSet|ControlSet001)\\Control\\Session Manager\\Environment "Path": ("?)(.*?)\2? → \2?\3;+\2?$/i,
    ];
    return ofWine.some((pattern) => pattern.test(line));
  }

  async snapshot() {
    // A process that has just ended may still be writing.
    await until('our programs to end', () => running(`${this.name}.exe`).length + running(`${this.name}.com`).length === 0);
    return { registry: await registry(), disk: disk(drive) };
  }

  /** What has come, gone and changed since a snapshot, and is no exception. */
  async left(before) {
    const after = await this.snapshot();
    const except = (line) => this.except(line);
    return [...difference(before.registry, after.registry, except), ...difference(before.disk, after.disk, except)];
  }
}

const times = {};

/** The agents have ended: what has ended in that Windows is gone a moment later on this system. */
const ended = (pids, said) => until(`the agents to end; the installer said ${JSON.stringify(said.out + said.err)}`, () => !pids.some(alive), { within: 3000 });

// --- the release --------------------------------------------------------------------------

const release = new Product('encounter-launcher', 'Encounter Launcher', 'EncounterLauncher');
const given = {
  BACKENDURL: 'https://encounters.hospital.example/api', OIDCISSUER: 'https://login.hospital.example/realms/staff', OIDCCLIENTID: 'encounter-launcher',
  ENCOUNTERURLHOSTS: '.vendor.example;notes.hospital.example', AUTOSTART: '1', LANGUAGE: 'fr', ORGANIZATION: "St Mary's Hospital & Clinic",
};
const properties = (set) => Object.entries(set).map(([name, text]) => `${name}=${text}`);

/** The policy that the program sees is that of the installer. */
async function defaultsAre(set) {
  const policy = await release.answer('policy');
  const want = {
    BackendURL: set.BACKENDURL, OIDCIssuer: set.OIDCISSUER, OIDCClientID: set.OIDCCLIENTID, EncounterURLHosts: set.ENCOUNTERURLHOSTS?.split(';'),
    Autostart: set.AUTOSTART === undefined ? undefined : set.AUTOSTART === '1', Language: set.LANGUAGE, OrganizationName: set.ORGANIZATION,
  };
  for (const [key, text] of Object.entries(want)) {
    const value = policy.values.find((v) => v.key === key);
    expect(value.rejected.length === 0, () => `${key} was rejected: ${JSON.stringify(value.rejected)}`);
    if (text === undefined) expect(value.source === 'built-in default', () => `${key} was not given and comes from ${value.source}`);
    else expect(value.source === 'installer defaults' && JSON.stringify(value.effective) === JSON.stringify(text), () => `${key} is ${JSON.stringify(value.effective)} from ${value.source}`);
  }
}

let before, agent;

console.log('The release');
await started();
before = await release.snapshot();

await step('the package runs one program, which has no console, and takes properties from administrators only', async () => {
  // A standard user may start a repair, which runs as SYSTEM.
  for (const [folder, version] of [[oldFolder, oldVersion], [newFolder, newVersion]]) {
    const rows = async (table) => (await run('msiinfo', ['export', msi(folder, release.name, version), table])).out.replaceAll('\r', '').split('\n').slice(3).filter(Boolean).map((row) => row.split('\t'));
    const programs = (await rows('CustomAction')).filter(([, type]) => (type & 0x3f) !== 51);
    expect(programs.length === 1 && programs[0].slice(0, 4).join('\n') === 'QuitAgents\n3170\nINSTALLDIR\n"[INSTALLDIR]encounter-launcher.exe" quit --all-sessions', () => JSON.stringify(programs));
    const exe = readFileSync(join(folder, 'encounter-launcher.exe'));
    expect(exe.readUInt16LE(exe.readUInt32LE(0x3c) + 0x5c) === 2, 'the program is not one of the graphical subsystem');
    const secure = Object.fromEntries(await rows('Property')).SecureCustomProperties;
    expect(secure.split(';').sort().join() === 'WIX_DOWNGRADE_DETECTED,WIX_UPGRADE_DETECTED', () => `everybody may pass ${secure}`);
    // Where it stands in both, only that of the person's side runs.
    expect((await rows('InstallUISequence')).every(([action]) => action !== 'AppSearch'), 'what was kept is looked up on the side of the person');
  }
});

await step('what cannot be is refused, and nothing is installed', async () => {
  for (const wrong of ['AUTOSTART=yes', 'AUTOSTART=2', 'ORGANIZATION=#1 Clinic']) {
    const said = await msiexec('/i', release.old(), '/qn', wrong);
    expect(said.code === failed, () => `${wrong}: msiexec ended with ${said.code}`);
  }
  const left = await release.left(before);
  expect(left.length === 0, () => left.join('\n'));
});

await step('it installs silently with its properties', async () => {
  const said = await msiexec('/i', release.old(), '/qn', ...properties(given));
  installs(said);
  times.install = said.seconds;
  const notices = `${release.folder}\\third-party-notices.txt`;
  for (const path of [release.exe, release.com, notices]) expect(existsSync(unix(path)), `${path} is missing`);
  const texts = readFileSync(unix(notices), 'latin1');
  for (const part of ['The Go programming language', 'github.com/wailsapp/wails/v2', 'svelte (npm)']) expect(texts.includes(part), `the notices lack ${part}`);
  expect(readFileSync(unix(release.exe)).equals(readFileSync(join(oldFolder, 'encounter-launcher.exe'))), 'the installed exe is another one');
});

await step('the values have the names and types that the policy wants', async () => {
  const values = Object.fromEntries(await release.values('Software\\EncounterLauncher'));
  const want = {
    BackendURL: `"${given.BACKENDURL}"`, OIDCIssuer: `"${given.OIDCISSUER}"`, OIDCClientID: `"${given.OIDCCLIENTID}"`,
    EncounterURLHosts: `"${given.ENCOUNTERURLHOSTS}"`, Autostart: 'dword:00000001', Language: '"fr"', OrganizationName: `"${given.ORGANIZATION}"`,
  };
  expect(Object.keys(values).sort().join() === Object.keys(want).sort().join(), () => `the values are ${Object.keys(values)}`);
  for (const [name, text] of Object.entries(want)) expect(values[name] === text, () => `${name} is ${values[name]}`);
  const setup = Object.fromEntries(await release.values('Software\\EncounterLauncher\\Setup'));
  expect(Object.keys(setup).sort().join() === 'InstallDir,Menu', () => `what the installer keeps for itself is ${Object.keys(setup)}`);
  expect((await release.values('Software\\Policies\\EncounterLauncher')).length === 0, 'the installer wrote policies');
});

await step('the scheme, the start at logon, the menu and the list of programs are as they must be', async () => {
  const text = async (key, name = '@') => Object.fromEntries(await release.values(key))[name]?.replace(/^"|"$/g, '').replace(/\\(.)/g, '$1');
  const wrong = [];
  const is = async (want, ...where) => {
    const found = await text(...where);
    if (found !== want) wrong.push(`${where.join(' ')} is ${found}, not ${want}`);
  };
  await is(`"${release.exe}" "%1"`, 'Software\\Classes\\encounter-launcher\\shell\\open\\command');
  await is('', 'Software\\Classes\\encounter-launcher', 'URL Protocol');
  await is(`"${release.exe}" agent`, 'Software\\Microsoft\\Windows\\CurrentVersion\\Run', 'encounter-launcher');
  const all = await registry();
  const programs = [...all.keys()].filter((name) => /\\Uninstall\\\{[^\\]*\}$/i.test(name) && all.get(`${name} "DisplayName"`) === '"Encounter Launcher"');
  expect(programs.length === 1, () => `it is listed ${programs.length} times`);
  expect(all.get(`${programs[0]} "NoModify"`) === 'dword:00000001' && all.get(`${programs[0]} "DisplayVersion"`) === `"${oldVersion}"`, 'the list of programs says something else');
  expect([...disk(drive).keys()].some((file) => file.endsWith('/Start Menu/Programs/Encounter Launcher.lnk')), 'the Start menu has no entry');
  expect(wrong.length === 0, () => wrong.join('\n'));
});

await step('the program takes them for installer defaults', () => defaultsAre(given));

await step('a shell finds the program, and it prints and returns its status', async () => {
  const version = await wine(['cmd', '/c', 'encounter-launcher version && encounter-launcher check-link nonsense']);
  expect(version.out.startsWith(`${oldVersion}\n`) && version.code === 1, () => `it ended with ${version.code} and said ${version.out}${version.err}`);
});

await step('arguments smuggled into a link are refused, and nothing else happens', async () => {
  const link = 'encounter-launcher://launch?handle=Zk3vQ9x1T7mB2nR5wY8uLg';
  const vectors = readFileSync(join(here, '../../internal/intake/testdata/argv.jsonl'), 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line))
    .filter(({ expect: want, argv }) => want === 'refuse' && argv.length > 0);
  expect(vectors.length >= 5, 'the vectors are not where the test looks');
  const tries = [
    // As a page can write it: the quote ends the argument that the registered command opens.
    ...['encounter-launcher://launch/q" --evil "x', `${link}" --evil "x`, `${link}" "agent`, `${link}" "quit`, `${link}" "status`, `${link} --evil`, `${link}" "${link}`]
      .map((address) => ({ name: address, go: () => release.open(address) })),
    ...vectors.filter(({ argv }) => argv[0].startsWith('encounter-launcher:')).map(({ name, argv }) => ({ name, go: () => release.open(argv.join('" "')) })),
    ...vectors.map(({ name, argv }) => ({ name, go: () => wine([release.exe, ...argv]) })),
  ];
  const files = disk(join(drive, 'users'), home);
  for (const { name, go } of tries) {
    const refused = release.refused();
    const said = await go();
    expect(said.code === 2, () => `${name}: ended with ${said.code}`);
    expect(release.refused() === refused + 1, () => `${name}: the audit has ${release.refused() - refused} refusals more`);
    expect(release.agents().length === 0, () => `${name}: an agent was started`);
  }
  expect(visited().length === 0, 'something was opened');
  const changed = difference(files, disk(join(drive, 'users'), home), (line) => line.includes(`${release.state}/audit`) || line.endsWith(`${release.state} folder`));
  expect(changed.length === 0, () => changed.join('\n'));
});

await step('a link starts the agent, and a second reaches the same', async () => {
  const said = await release.open('encounter-launcher://launch?handle=Zk3vQ9x1T7mB2nR5wY8uLg');
  expect(said.code === 0, () => `the link ended with ${said.code}: ${said.err}`);
  const agents = release.agents();
  expect(agents.length === 1, () => `${agents.length} agents run`);
  [agent] = agents;
  const second = await release.open('encounter-launcher://launch?handle=Yk3vQ9x1T7mB2nR5wY8uLg');
  expect(second.code === 0 && release.agents().join() === String(agent), () => `the second link ended with ${second.code}; agents: ${release.agents()}`);
});

await step('a repair brings back a deleted file and key', async () => {
  rmSync(unix(release.com));
  await wine(['reg', 'delete', 'HKLM\\Software\\Classes\\encounter-launcher', '/f']);
  const said = await msiexec('/i', release.old(), '/qn', 'REINSTALL=ALL');
  installs(said);
  expect(existsSync(unix(release.com)), 'the file is still missing');
  const command = await release.values('Software\\Classes\\encounter-launcher\\shell\\open\\command');
  expect(command.length === 1, 'the key is still missing');
  await defaultsAre(given);
});

await step('the same version takes another value and keeps the others', async () => {
  const said = await msiexec('/i', release.old(), '/qn', 'REINSTALL=ALL', 'LANGUAGE=de');
  installs(said);
  given.LANGUAGE = 'de';
  await defaultsAre(given);
});

await step('an upgrade to another program keeps what was given, takes what is given anew, and ends the old agent', async () => {
  if (!alive(agent)) {
    await release.open('encounter-launcher://launch?handle=Xk3vQ9x1T7mB2nR5wY8uLg');
    [agent] = release.agents();
  }
  expect(!readFileSync(join(newFolder, 'encounter-launcher.exe')).equals(readFileSync(join(oldFolder, 'encounter-launcher.exe'))), 'the two programs are the same');
  given.ENCOUNTERURLHOSTS = 'one.vendor.example';
  const said = await msiexec('/i', release.new(), '/qn', `ENCOUNTERURLHOSTS=${given.ENCOUNTERURLHOSTS}`);
  installs(said);
  times.upgrade = said.seconds;
  expect(readFileSync(unix(release.exe)).equals(readFileSync(join(newFolder, 'encounter-launcher.exe'))), 'the exe is not the new one');
  expect(readFileSync(unix(release.com)).equals(readFileSync(join(newFolder, 'encounter-launcher.com'))), 'the com is not the new one');
  await ended([agent], said);
  await defaultsAre(given);
  const version = await release.say('version');
  expect(version.out.trim() === newVersion, () => `it is version ${version.out}`);
  const all = await registry();
  const listed = [...all].filter(([name, text]) => /^HKEY_LOCAL_MACHINE.*\\Uninstall\\.*"DisplayName"$/i.test(name) && text === '"Encounter Launcher"');
  expect(listed.length === 1, () => `it is listed ${listed.length} times`);
});

await step('the next link starts the new one', async () => {
  const said = await release.open('encounter-launcher://launch?handle=Wk3vQ9x1T7mB2nR5wY8uLg');
  expect(said.code === 0, () => `the link ended with ${said.code}`);
  const status = await release.answer('status');
  expect(status.agent === 'running' && status.version === newVersion, () => JSON.stringify(status));
});

await step('the way back to an older version is refused, and nothing has changed', async () => {
  const now = release.agents().join();
  const said = await msiexec('/i', release.old(), '/qn', 'LANGUAGE=es');
  expect(said.code === failed, () => `msiexec ended with ${said.code}`);
  expect(readFileSync(unix(release.exe)).equals(readFileSync(join(newFolder, 'encounter-launcher.exe'))), 'the exe is not the new one any more');
  expect(release.agents().join() === now, 'the agent was ended');
  await defaultsAre(given);
});

await step('a value of the installer that IT takes away is not brought back by a repair', async () => {
  await wine(['reg', 'delete', 'HKLM\\Software\\EncounterLauncher', '/v', 'Autostart', '/f']);
  await wine(['reg', 'delete', 'HKLM\\Software\\EncounterLauncher', '/v', 'Language', '/f']);
  installs(await msiexec('/i', await release.code(newFolder, newVersion), '/qn', 'REINSTALL=ALL'));
  await defaultsAre({ ...given, LANGUAGE: undefined, AUTOSTART: undefined });
});

await step('an uninstall leaves nothing but what is the users\' own', async () => {
  const said = await msiexec('/x', release.new(), '/qn');
  installs(said);
  times.uninstall = said.seconds;
  await ended(release.agents(), said);
  const left = await release.left(before);
  expect(left.length === 0, () => left.join('\n'));
});

// --- AUTOSTART=0, and a list of hosts that IT edits by hand -------------------------------------

const none = { AUTOSTART: '0', ENCOUNTERURLHOSTS: '.vendor.example;gone.hospital.example;notes.hospital.example' };
const run0 = async (want) => {
  const values = Object.fromEntries(await release.values('Software\\EncounterLauncher'));
  expect(values.Autostart === 'dword:00000000', () => `Autostart is ${values.Autostart}`);
  const run = Object.fromEntries(await release.values('Software\\Microsoft\\Windows\\CurrentVersion\\Run'));
  expect(run['encounter-launcher'] === undefined, 'it starts at logon');
  await defaultsAre(want);
};
const key = 'HKLM\\Software\\EncounterLauncher';
const hosts = (text) => wine(['reg', 'add', key, '/v', 'EncounterURLHosts', '/t', 'REG_SZ', '/d', text, '/f']);

await step('with AUTOSTART=0 nothing starts at logon, and the program knows that it is not to', async () => {
  installs(await msiexec('/i', release.old(), '/qn', ...properties(none)));
  await run0(none);
});

await step('a repair and an upgrade keep the list of hosts as IT has edited it', async () => {
  none.ENCOUNTERURLHOSTS = '.vendor.example;notes.hospital.example';
  await hosts(none.ENCOUNTERURLHOSTS);
  installs(await msiexec('/i', release.old(), '/qn', 'REINSTALL=ALL'));
  await run0(none);
  none.ENCOUNTERURLHOSTS = 'notes.hospital.example';
  await hosts(none.ENCOUNTERURLHOSTS);
  installs(await msiexec('/i', release.new(), '/qn'));
  await run0(none);
});

await step('neither a repair nor an upgrade brings back the hosts that IT has deleted', async () => {
  const nobody = { ...none, ENCOUNTERURLHOSTS: undefined };
  const away = async () => {
    const said = await wine(['reg', 'delete', key, '/v', 'EncounterURLHosts', '/f']);
    expect(said.code === 0, 'there was nothing to delete');
  };
  await away();
  installs(await msiexec('/i', release.new(), '/qn', 'REINSTALL=ALL'));
  await run0(nobody);
  installs(await msiexec('/x', release.new(), '/qn'));
  installs(await msiexec('/i', release.old(), '/qn', ...properties(none)));
  await away();
  installs(await msiexec('/i', release.new(), '/qn'));
  await run0(nobody);
});

await step('and that goes without a trace too', async () => {
  installs(await msiexec('/x', release.new(), '/qn'));
  const left = await release.left(before);
  expect(left.length === 0, () => left.join('\n'));
});

// --- the demo: the whole way ------------------------------------------------------------------

console.log('The demo, from the link to the browser');
const demo = new Product('encounter-launcher-demo', 'Encounter Launcher Demo', 'EncounterLauncherDemo');
const log = openSync(join(home, 'sandbox.log'), 'a', 0o600);
const addresses = join(home, 'addresses.json');
let at;

const press = async (button) => {
  const answer = await fetch(`${at.ehr}/press/${button}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"clinician":"ada"}' });
  expect(answer.status === 200, () => `the EHR answered ${answer.status}`);
  return (await answer.json()).link;
};
const pages = () => visited().filter((address) => address.startsWith(`${at.nabla}/`));
const launchIs = (stage) => until(`the launch to be ${stage}`, async () => {
  const { launch } = await demo.answer('status');
  if (launch?.stage !== stage) throw new Error(`it is ${launch?.stage} ${launch?.code}`);
  return launch;
}, { every: 500 });

before = await demo.snapshot();

await step('the sandbox serves, and the demo installs', async () => {
  const native = { ...process.env, XDG_STATE_HOME: join(home, 'state'), XDG_CONFIG_HOME: join(home, 'config'), XDG_DATA_HOME: join(home, 'data'), XDG_RUNTIME_DIR: home };
  start(sandbox, ['--no-launcher', '--no-browser', '--ehr-port', String(await freePort()), '--addresses', addresses], { log, env: native });
  at = await until('the sandbox', () => existsSync(addresses) && JSON.parse(readFileSync(addresses, 'utf8')));
  // The demo's policy is the sandbox's; the two are on different systems here.
  mkdirSync(join(demo.state, 'sandbox'), { recursive: true });
  copyFileSync(join(home, 'state/encounter-launcher-demo/sandbox/policy.json'), join(demo.state, 'sandbox/policy.json'));
  installs(await msiexec('/i', demo.old(), '/qn'));
});

await step('a link signs in, reaches the backend, and the browser gets the one-time address', async () => {
  const said = await demo.open(await press('1'));
  expect(said.code === 0, () => `the link ended with ${said.code}: ${said.err}`);
  await launchIs('opened');
  const page = await until('the browser', () => pages()[0]);
  expect(visited().some((address) => address.startsWith(at.issuer)), 'there was no sign-in page');
  const shown = await fetch(page);
  expect(shown.status === 200 && (await shown.text()).includes('SBX-ENC-ADA-1'), () => `the page answered ${shown.status}`);
  expect((await fetch(page)).status !== 200, 'the address works twice');
  [agent] = demo.agents();
});

await step('a second link reaches the same agent', async () => {
  await pause(3200); // within 3 s it would count as the same click
  const said = await demo.open(await press('2'));
  expect(said.code === 0, () => `the link ended with ${said.code}: ${said.err}`);
  await until('the browser', () => pages()[1]);
  expect(demo.agents().join() === String(agent), () => `the agents are ${demo.agents()}, it was ${agent}`);
});

await step('an upgrade ends the agent, and the next link goes the whole way with the new one', async () => {
  const upgrade = await msiexec('/i', demo.new(), '/qn');
  installs(upgrade);
  await ended([agent], upgrade);
  await pause(3200);
  const said = await demo.open(await press('3'));
  expect(said.code === 0, () => `the link ended with ${said.code}: ${said.err}`);
  await until('the browser', () => pages()[2]);
  const status = await demo.answer('status');
  expect(status.version === newVersion, () => `the agent is version ${status.version}`);
});

await step('unregister takes away what the program has set for the person', async () => {
  const tail = [`\\Software\\Classes\\AppUserModelId\\${demo.name}`, `\\Software\\Microsoft\\Windows\\CurrentVersion\\Run "${demo.name}"`];
  // regedit names the user's hive by their SID.
  const own = async () => [...(await registry()).keys()].filter((name) => /^HKEY_USERS\\S-1-5-21-/.test(name) && tail.some((end) => name.endsWith(end)));
  const quit = await demo.say('quit');
  expect(quit.code === 0, () => `quit ended with ${quit.code}: ${quit.err}`);
  // As the agent writes the one when it shows its first notice, the other where nothing else starts it.
  await wine(['reg', 'add', `HKCU\\Software\\Classes\\AppUserModelId\\${demo.name}`, '/v', 'DisplayName', '/d', demo.title, '/f']);
  await wine(['reg', 'add', 'HKCU\\Software\\Microsoft\\Windows\\CurrentVersion\\Run', '/v', demo.name, '/d', `"${demo.exe}" agent`, '/f']);
  const set = await own();
  expect(set.length === 2, () => `there is ${set}`);
  const said = await demo.say('unregister');
  expect(said.code === 0, () => `unregister ended with ${said.code}: ${said.err}`);
  const left = await own();
  expect(left.length === 0, () => left.join('\n'));
  const link = await demo.open(await press('1'));
  expect(link.code === 0 && demo.agents().length === 1, () => `the installed handler ended with ${link.code}`);
});

await step('the demo goes without a trace, its running agent too', async () => {
  const said = await msiexec('/x', demo.new(), '/qn');
  installs(said);
  await ended(demo.agents(), said);
  const left = await demo.left(before);
  expect(left.length === 0, () => left.join('\n'));
});

await step('an agent that does not answer does not hold up the uninstall', async () => {
  installs(await msiexec('/i', release.old(), '/qn', ...properties(given)));
  await release.open('encounter-launcher://launch?handle=Vk3vQ9x1T7mB2nR5wY8uLg');
  [agent] = release.agents();
  process.kill(agent, 'SIGSTOP');
  // quit waits ten seconds at most, and as long again is allowed for; the rest is an uninstall, which a busy computer slows down as it
  // did the one above.
  const said = await timed(['msiexec', '/x', release.old(), '/qn'], { timeout: 120_000 });
  const waited = alive(agent);
  process.kill(agent, 'SIGKILL');
  times.stuck = said.seconds;
  expect(waited, 'the agent was not there any more, so nothing was waited for');
  installs(said);
  expect(said.seconds < 20 + 4 * times.uninstall, () => `it took ${said.seconds} s, an uninstall without it ${times.uninstall} s`);
  expect((await release.values('Software\\Classes\\encounter-launcher\\shell\\open\\command')).length === 0, 'it was not removed');
});

await endAll();
console.log(`silent install ${times.install?.toFixed(1)} s, uninstall ${times.uninstall?.toFixed(1)} s (each to be at most 5 s, under Wine, on this machine as it is)`);
console.log(`upgrade ${times.upgrade?.toFixed(1)} s, uninstall with an agent that does not answer ${times.stuck?.toFixed(1)} s`);
console.log(`${steps.passed} steps passed${steps.failed ? `, ${steps.failed} FAILED` : ''} (${prefix})`);
process.exit(steps.failed ? 1 : 0);
