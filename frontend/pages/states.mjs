// Every view in every state: what the agent sent, and what the person did since.
import { readFileSync } from 'node:fs';

/** @param {typeof import('../src/testing/fakes')} fakes */
export function states({ signedIn, signedOut, signingIn, unreachable, wire, wireCheckup, wireDoctor, wireLaunch, wireRecents }) {
  const failed = (changes = {}, problem = {}) => wireLaunch('failed', { problem: { ...unreachable, ...problem }, ...changes });
  const yesterday = '2026-03-03T17:45:00';
  const hostile = `<img src=x onerror="alert(1)"><b>b</b>\u202e\u2066 one\ntwo 😀👩‍⚕️ ${'Z\u0301\u0302\u0303\u0304\u0305'.repeat(9)}${'W'.repeat(10_000)}`;
  const choice = (key, value, source, locked = false) => ({
    key,
    kind: key === 'Autostart' ? 'yes_no' : 'choice',
    value,
    choices: key === 'Language' ? ['en', 'fr', 'es', 'de'] : key === 'Notices' ? ['all', 'problems', 'none'] : [],
    locked,
    source,
  });
  const lastOpened = wireLaunch('opened', { label: 'M. K.', recent_id: 'r1', started_at: '2026-03-04T14:27:00', fresh_until: '2026-03-04T14:37:00' });
  // Every finding that there is, in the agent's words, with facts as long as they come.
  const facts = {
    key: 'BackendURL',
    source: 'machine policy',
    free: '412 MB',
    folder: '~/.local/state/encounter-launcher',
    program: '~/opt/encounter-launcher/bin/encounter-launcher',
    running: '1.2.4',
    installed: '1.3.0',
    where: 'HKCU\\Software\\Classes\\encounter-launcher',
    command: '"C:\\Program Files\\Encounter Launcher\\encounter-launcher.exe" "%1"',
    tool: 'xdg-mime',
    version: '1.3.0',
    oldest: '109.0.1518.140',
    library: 'libwebkit2gtk-4.1.so.0',
    browser: 'Microsoft Edge',
    host: 'backend.long-name-of-a-hospital.example:8443',
    proxy: 'proxy.long-name-of-a-hospital.example:3128',
    issuer: 'Long Name of a Hospital Inspection CA G2',
    days: '9',
    seconds: '48',
    minutes: '17',
    endpoint: 'token_endpoint',
    status: '502',
    // Of one check, or one finding, alone.
    'policy.missing.key': 'OIDCClientID',
    'policy.refused.key': 'EncounterURLHosts',
    'files.disk_full.free': '3 MB',
    'window.program_missing.program': 'C:\\Program Files\\Encounter Launcher\\encounter-launcher.exe',
    'window.webview_old.version': '94.0.992.31',
    'scheme.other_program.program': 'C:\\Program Files\\Other Company\\other-viewer.exe',
    'scheme.wrong_command.command': '"C:\\Program Files\\Encounter Launcher\\encounter-launcher.exe" status %1',
    'dns.host': 'backend.long-name-of-a-hospital.example',
    'dns.encounter_host.host': 'encounters.hospital.example',
    'tls.encounter_host.host': 'encounters.hospital.example',
    'sign_in.host': 'sign-in.long-name-of-a-hospital.example',
    'backend.lets_in.status': '200',
    'backend.other_contract.version': '2.0.0',
  };
  const examined = (language) => {
    const words = JSON.parse(readFileSync(new URL(`../../internal/text/words/${language}.json`, import.meta.url), 'utf8'));
    const say = (check, code, part) =>
      (words[`doctor.${check}.${code}.${part}`] ?? '').replace(/\{(\w+)\}/g, (_, name) => {
        const fact = facts[`${check}.${code}.${name}`] ?? facts[`${check}.${name}`] ?? facts[name];
        if (fact === undefined) throw new Error(`the finding ${check}.${code} has no fact for ${name} here`);
        return fact;
      });
    const names = Object.keys(words).flatMap((key) => /^doctor\.(\w+)\.title$/.exec(key)?.[1] ?? []);
    const checks = names.map((name, i) => {
      const codes = Object.keys(words).flatMap((key) => new RegExp(`^doctor\\.${name}\\.(\\w+)\\.next$`).exec(key)?.[1] ?? []);
      const findings = codes.map((code) => ({ code, state: 'broken', sentence: say(name, code, 'sentence'), next_step: say(name, code, 'next') }));
      const state = ['broken', 'warning', 'skipped'][i % 3];
      return { name, title: words[`doctor.${name}.title`], group: i < 9 ? 'computer' : i < 13 ? 'network' : 'services', state, ms: 12, findings };
    });
    return { running: false, started_at: '2026-03-04T14:29:00', checks };
  };
  const first = { first_run: true, sign_in: signedOut, recents: [], backend: { state: 'unknown' } };

  return {
    'home': { sent: wire({ recents: wireRecents(12), launch: lastOpened, sign_in: { ...signedIn, ends_at: '2026-03-04T18:00:00' } }) },
    'home-two': { sent: wire() },
    'home-empty': { sent: wire({ recents: [] }) },
    'home-many': { sent: wire({ recents: wireRecents(200) }), tabs: false },
    'home-found': { sent: wire({ recents: wireRecents(200) }), type: 'p. 7' },
    'home-none-found': { sent: wire({ recents: wireRecents(12) }), type: 'xyz' },
    'home-undo': { sent: wire({ undo: { removed: 1, until: '2026-03-04T14:30:10' } }) },
    'home-cleared': { sent: wire({ recents: [], undo: { removed: 12, until: '2026-03-04T14:30:10' } }) },
    'home-signed-out': { sent: wire({ sign_in: signedOut, recents: [] }) },
    'home-backend-unknown': { sent: wire({ backend: { state: 'unknown' } }) },
    'home-link-other': { sent: wire({ link: { state: 'other' } }) },
    'home-link-nobody': { sent: wire({ link: { state: 'nobody' } }) },
    'home-backend-trouble': { sent: wire({ backend: { state: 'trouble', problem: unreachable, at: '2026-03-04T14:21:00' } }) },
    'home-shared': {
      sent: wire({
        sign_in: { ...signedIn, memory_only: true, ends_at: '2026-03-04T22:00:00' },
        workstation: { shared: true, sign_out_on_lock: true, idle_sign_out_minutes: 15 },
      }),
    },
    'home-memory-only': { sent: wire({ sign_in: { ...signedIn, person: { subject: '1', email: '' }, memory_only: true } }) },
    'home-policy-refuses': {
      sent: wire({ policy: { ok: false, problems: ['BackendURL is not set.', 'EncounterURLHosts is not a list of host names.'], refuses_launches: true } }),
    },
    'home-policy-attention': { sent: wire({ policy: { ok: false, problems: ['LogLevel has a value that is not allowed.'], refuses_launches: false } }) },
    'home-keyring': { sent: wire({ keyring: { code: 'keyring_locked' } }) },
    'home-last-failed': { sent: wire({ launch: failed({ retryable: true, started_at: yesterday }) }) },
    'home-last-cancelled': { sent: wire({ launch: wireLaunch('cancelled', { retryable: true }) }) },
    'home-refused': { sent: wire(), refusal: { ...unreachable, code: 'keyring_locked' }, press: 'main section button' },
    'home-hidden': { sent: wire({ hidden: ['sign-in', 'sign-out', 'recents', 'settings', 'diagnostics', 'quit'] }) },
    'home-hostile': {
      sent: wire({
        organization_name: hostile,
        sign_in: { ...signedIn, person: { subject: '1', email: hostile } },
        policy: { ok: false, problems: [hostile], refuses_launches: true },
        backend: { state: 'trouble', problem: { code: 'internal', sentence: hostile, next_step: hostile, reference: hostile } },
        launch: wireLaunch('opened', { label: hostile, fresh_until: '2026-03-04T14:37:00' }),
        recents: wireRecents(7).map((r) => ({ ...r, label: hostile })),
      }),
    },
    'launching-received': { sent: wire({ launch: wireLaunch('received', { ms: { received: 0 }, started_at: '2026-03-04T14:29:59.9' }) }) },
    'launching': { sent: wire({ launch: wireLaunch('creating', { started_at: '2026-03-04T14:29:58' }) }) },
    'launching-slow': { sent: wire({ launch: wireLaunch('opening', { started_at: '2026-03-04T14:29:50', ms: { received: 0, signing_in: 40, creating: 6_300, opening: 7_100 } }) }) },
    'launching-again': { sent: wire({ launch: wireLaunch('creating', { reopen: true, label: 'M. K.' }) }) },
    'launching-hostile': { sent: wire({ launch: wireLaunch('creating', { reopen: true, label: hostile }) }) },
    'sign-in': { sent: wire({ sign_in: signingIn, recents: [] }) },
    'sign-in-launch': { sent: wire({ sign_in: signingIn, launch: wireLaunch('signing_in'), recents: [] }) },
    'sign-in-no-page': { sent: wire({ sign_in: { state: 'signing_in', memory_only: false, page_open: false }, recents: [] }) },
    'problem': { sent: wire({ launch: failed({ retryable: true }) }) },
    'problem-sign-in-again': { sent: wire({ launch: failed({ retryable: true, fresh_until: '2026-03-04T14:35:00' }, { code: 'unauthorized' }) }) },
    'problem-no-remedy': { sent: wire({ launch: failed({}, { code: 'handle_spent' }) }) },
    'problem-signed-out': { sent: wire({ sign_in: { ...signedOut, problem: { ...unreachable, code: 'signin_failed' } }, recents: [] }) },
    'problem-no-help-desk': { sent: wire({ help_desk_url: '', launch: failed({ retryable: true }) }) },
    'problem-copied': { sent: wire({ launch: failed({ retryable: true }) }), press: '.reference button' },
    'problem-hostile': { sent: wire({ launch: failed({ retryable: true }, { sentence: hostile, next_step: hostile, reference: hostile }) }) },
    'settings': { sent: wire(), go: 'settings' },
    'settings-own': {
      sent: wire({ settings: [choice('Language', 'en', "person's choice"), choice('Autostart', 'true', "person's choice"), choice('Notices', 'none', "person's choice")] }),
      go: 'settings',
    },
    'settings-locked': {
      sent: wire({ settings: [choice('Language', 'fr', 'machine policy', true), choice('Autostart', 'true', 'user policy', true), choice('Notices', 'all', 'safest value', true)] }),
      go: 'settings',
    },
    'settings-pending': { sent: wire(), go: 'settings', press: '.choices button:nth-child(5)' },
    'settings-empty': { sent: wire({ settings: [] }), go: 'settings' },
    'diagnostics': { sent: wire({ keyring: { code: 'keyring_locked' } }), go: 'diagnostics' },
    'diagnostics-running': { sent: wire({ checkup: wireCheckup({ link: 'running', sign_in: 'waiting', backend: 'waiting' }, true) }), go: 'diagnostics' },
    'diagnostics-well': { sent: wire({ checkup: wireCheckup() }), go: 'diagnostics' },
    'diagnostics-problems': {
      sent: wire({
        policy: { ok: false, problems: ['LogLevel has a value that is not allowed.'], refuses_launches: false },
        checkup: wireCheckup({ policy: 'problem', sign_in: 'problem', backend: 'skipped' }),
      }),
      go: 'diagnostics',
    },
    'diagnostics-examining': { sent: wire({ checkup: wireCheckup(), doctor: wireDoctor({ tls: 'waiting', clock: 'warning', backend: 'waiting' }, true) }), go: 'diagnostics' },
    'diagnostics-examined-well': { sent: wire({ checkup: wireCheckup(), doctor: wireDoctor() }), go: 'diagnostics' },
    'diagnostics-examined': { sent: (language) => wire({ checkup: wireCheckup(), doctor: examined(language) }), go: 'diagnostics' },
    'diagnostics-examined-hostile': {
      sent: wire({
        doctor: { running: false, started_at: '2026-03-04T14:29:00', checks: [{ name: hostile, title: hostile, group: hostile, state: 'broken', ms: 1, findings: [{ code: 'x', state: 'broken', sentence: hostile, next_step: hostile }] }] },
      }),
      go: 'diagnostics',
    },
    'about': { sent: wire(), go: 'about' },
    'about-two-versions': { sent: wire({ version: '1.3.0-rc.1', organization_name: '', help_desk_url: '' }), go: 'about' },
    'welcome': { sent: wire(first) },
    'welcome-running': { sent: wire({ ...first, checkup: wireCheckup({ link: 'running', sign_in: 'waiting', backend: 'waiting' }, true) }) },
    'welcome-problems': { sent: wire({ ...first, checkup: wireCheckup({ backend: 'problem', sign_in: 'skipped' }) }) },
    'connecting': { sent: null },
    'gone': { sent: wire(), gone: true },
    'gone-at-first': { sent: null, gone: true },
  };
}
