// Runs every command of docs/enterprise.md, section Windows, in a Windows of its own, in the order of the
// page, and looks at what they should have done. A block of commands that is not run fails.
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, Steps, until } from '../e2e/steps.mjs';
import { mendPath, running, started, unix, wine } from './windows.mjs';

const here = new URL('.', import.meta.url).pathname;
const { MSI_OLD: oldFolder, MSI_NEW: newFolder, MSI_OLD_VERSION: oldVersion, MSI_NEW_VERSION: newVersion } = process.env;
const page = readFileSync(join(here, '../../docs/enterprise.md'), 'utf8');
const section = page.slice(page.indexOf('\n## Windows\n')).split(/\n## (?!Windows\n)/)[0];
const steps = new Steps(async () => {});

// The page speaks of its own versions; the test has others.
const [first, next] = ['0.1.0', '0.2.0'];
const codes = (version) => execFileSync(join(here, 'build.sh'), ['--codes', version], { encoding: 'utf8' }).trim().split('\n');
const [upgradeCode, productCode] = codes(first);
const ofTheTest = (text) => text.replaceAll(productCode, codes(oldVersion)[1]).replaceAll(first, oldVersion).replaceAll(next, newVersion);

const folder = join(process.env.HOME, 'packages');
mkdirSync(folder);
copyFileSync(join(oldFolder, `encounter-launcher_${oldVersion}_x64.msi`), join(folder, `encounter-launcher_${oldVersion}_x64.msi`));
copyFileSync(join(newFolder, `encounter-launcher_${newVersion}_x64.msi`), join(folder, `encounter-launcher_${newVersion}_x64.msi`));

const blocks = [...section.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm)].map(([, info, text]) => ({ info, text }));
const looks = {
  install: async () => expect(existsSync(unix('C:\\Program Files\\Encounter Launcher\\encounter-launcher.exe')), 'nothing was installed'),
  look: (said) => expect(said.out.includes('notes.hospital.example') && said.out.includes('"%1"') && said.out.includes(oldVersion), said.out),
  change: async () => language('de'),
  back: async () => language(null),
  detect: (said) => expect(said.out.split(oldVersion).length > 2, said.out),
  govern: (said) => {
    const { values } = JSON.parse(said.out.slice(said.out.indexOf('{')));
    expect(values.find(({ key }) => key === 'BackendURL').source === 'machine policy', said.out);
  },
  doctor: (said) => {
    expect(said.out.includes('{'), () => `it says nothing in JSON, and ended with ${said.code}: ${said.out}${said.err}`);
    const { result } = JSON.parse(said.out.slice(said.out.indexOf('{')));
    expect(['ok', 'warnings', 'broken'].indexOf(result) === said.code, () => `the result is ${result}, and it ended with ${said.code}`);
    const temp = unix(said.out.match(/^TEMP=(.*)$/m)[1]);
    expect(readFileSync(join(temp, 'encounter-launcher-support.zip')).subarray(0, 2).toString() === 'PK', 'there is no zip file');
  },
  quit: async () => until('the agent to end', () => running('encounter-launcher.exe', 'agent').length === 0, { within: 3000 }),
  upgrade: async () => expect((await shell('encounter-launcher version')).out.trim() === newVersion, 'it is not the new version'),
  citrix: async () => expect((await shell('reg query HKLM\\SYSTEM\\CurrentControlSet\\Control\\Citrix\\wfshell\\TWI')).out.includes('encounter-launcher.exe'), 'there is no such value'),
  uninstall: async () => expect(!existsSync(unix('C:\\Program Files\\Encounter Launcher')), 'something is left'),
};
// What a block needs before it, and with what else than 0 it may end here.
const prepare = {
  quit: async () => {
    await shell('start "" "C:\\Program Files\\Encounter Launcher\\encounter-launcher.exe" agent');
    await until('the agent', async () => JSON.parse((await shell('encounter-launcher status --json')).out).agent === 'running', { within: 30_000 });
  },
};
const endings = { doctor: [0, 1, 2] };
async function language(want) {
  const { values } = JSON.parse((await shell('encounter-launcher policy --json')).out);
  const { effective } = values.find(({ key }) => key === 'Language');
  expect(effective === want, () => `Language is ${effective}`);
}

/** Runs commands as a shell does, in the folder of the packages, and stops at the first that fails. */
async function shell(text) {
  const lines = text.split('\n').filter(Boolean).flatMap((line) => [line, ...[3, 2, 1].map((status) => `if errorlevel ${status} exit /b ${status}`)]);
  writeFileSync(join(folder, 'block.bat'), ['@echo off', 'z:', `cd ${folder.replaceAll('/', '\\')}`, 'echo begun', ...lines, ''].join('\r\n'));
  // Wine 8 now and then ends cmd before it has read its file: then nothing was run.
  for (let times = 0; ; times++) {
    const said = await wine(['cmd', '/c', `z:${folder.replaceAll('/', '\\')}\\block.bat`]);
    if (said.out.includes('begun')) return { ...said, out: said.out.replace(/^begun\s*/, '') };
    if (times === 3) throw new Error(`Wine runs no batch file: it ended with ${said.code}: ${said.out}${said.err}`);
  }
}

await started();
await steps.step('the page names the codes of its version', async () => {
  expect(section.includes(`\`${productCode}\``) && section.includes(`\`${upgradeCode}\``), () => `the product code of ${first} is ${productCode}, the upgrade code ${upgradeCode}`);
});
expect(blocks.length >= 15, 'the page has no commands');
for (const { info, text } of blocks) {
  const [, language, stage] = info.match(/^(bat|sh) run ([a-z]+)$/) ?? [];
  // The block that signs is run by build/sign/test.sh.
  if (language === 'sh' && stage === 'sign') continue;
  await steps.step(`${stage ?? info}: ${text.split('\n')[0].slice(0, 90)}`, async () => {
    expect(language === 'bat', () => `nothing runs a block that is marked ${JSON.stringify(info)}`);
    await prepare[stage]?.();
    const said = await shell(stage === 'doctor' ? `set TEMP\n${ofTheTest(text)}` : ofTheTest(text));
    expect((endings[stage] ?? [0]).includes(said.code), () => `it ended with ${said.code}: ${said.out}${said.err}`);
    if (stage === 'upgrade') await mendPath();
    await looks[stage]?.(said);
  });
}
for (const stage of Object.keys(looks)) expect(blocks.some(({ info }) => info.endsWith(` run ${stage}`)), () => `the page has no block ${stage}`);
console.log(`${steps.passed} passed${steps.failed ? `, ${steps.failed} FAILED` : ''}`);
process.exit(steps.failed ? 1 : 0);
