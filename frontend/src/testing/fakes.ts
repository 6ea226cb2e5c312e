// What tests stand on: a bridge that only writes down what it is asked for, and
// snapshots to begin from.
import type { view } from '../../wailsjs/go/models';
import type { Intents } from '../bridge/intents';
import { readSnapshot } from '../bridge/read';
import { Shown } from '../state/snapshot.svelte';
import type { Problem } from '../state/types';

export const now = new Date('2026-03-04T14:30:00');

export class FakeBridge implements Intents {
  readonly asked: string[] = [];
  refusal: Problem | null = null;
  clipboard = true;

  signIn = () => this.#take('sign-in');
  showSignIn = () => this.#take('show-sign-in');
  signOut = () => this.#take('sign-out');
  openRecent = (id: string) => this.#take(`open-recent ${id}`);
  removeRecent = (id: string) => this.#take(`remove-recent ${id}`);
  clearRecents = () => this.#take('clear-recents');
  undoRemove = () => this.#take('undo-remove');
  cancel = (launch: string) => this.#take(`cancel ${launch}`);
  retry = (launch: string) => this.#take(`retry ${launch}`);
  freshLink = (launch: string) => this.#take(`fresh-link ${launch}`);
  choose = (key: string, value: string) => this.#take(`choose ${key}=${value}`);
  check = () => this.#take('check');
  openHelpDesk = () => this.#take('help-desk');
  quit = () => this.#take('quit');
  copy = (text: string) => {
    this.asked.push(`copy ${text}`);
    return Promise.resolve(this.clipboard);
  };

  #take(intent: string): Promise<Problem | null> {
    this.asked.push(intent);
    return Promise.resolve(this.refusal);
  }
}

export const unreachable: view.Problem = {
  code: 'org_unreachable',
  sentence: "Your organisation's server cannot be reached.",
  next_step: 'Check the network connection, then try again.',
  reference: '7K3M9QXA',
};

/** A snapshot as the agent sends it: signed in, nothing under way, two recents. */
export function wire(changes: Partial<view.Snapshot> = {}): view.Snapshot {
  return {
    revision: 1,
    version: '1.2.3',
    organization_name: 'Riverside Hospital',
    help_desk_url: 'https://help.riverside.example',
    language: 'en',
    locale: 'en-GB',
    hidden: [],
    first_run: false,
    sign_in: signedIn,
    policy: { ok: true, problems: [], refuses_launches: false },
    keyring: { code: '' },
    backend: { state: 'reachable', at: '2026-03-04T14:18:00' },
    workstation: { shared: false, sign_out_on_lock: false, idle_sign_out_minutes: 0 },
    link: { state: 'ours' },
    recents: [
      { id: 'r1', label: 'M. K.', opened_at: '2026-03-04T14:18:00', status: 'opened' },
      { id: 'r2', label: 'J. D.', opened_at: '2026-03-03T09:05:00', status: 'exported' },
    ],
    settings: [
      { key: 'Language', kind: 'choice', value: '', choices: ['en', 'fr', 'es', 'de'], locked: false, source: 'built-in default' },
      { key: 'Autostart', kind: 'yes_no', value: 'false', choices: [], locked: true, source: 'machine policy' },
      { key: 'Notices', kind: 'choice', value: 'problems', choices: ['all', 'problems', 'none'], locked: false, source: "person's choice" },
    ],
    raise_window: 0,
    ...changes,
  };
}

/** A look at the set-up in which these checks are in these states, the others well. */
export function wireCheckup(states: Readonly<Record<string, string>> = {}, running = false): view.Checkup {
  return {
    running,
    started_at: '2026-03-04T14:29:00',
    checks: ['policy', 'keyring', 'link', 'sign_in', 'backend'].map((name) => {
      const state = states[name] ?? 'ok';
      return { name, state, ms: 12, ...(state === 'problem' ? { problem: unreachable } : {}) };
    }),
  };
}

/** An examination in which these checks are in these states, the others well; what is not well has a finding. */
export function wireDoctor(states: Readonly<Record<string, string>> = {}, running = false): view.Doctor {
  const titles: readonly (readonly [string, string, string])[] = [
    ['policy', 'Policy', 'computer'],
    ['files', 'Files and disk', 'computer'],
    ['scheme', 'Links from the EHR', 'computer'],
    ['keyring', 'Password store', 'computer'],
    ['dns', 'Names of the servers', 'network'],
    ['tls', 'Secure connections', 'network'],
    ['clock', 'Clock', 'network'],
    ['backend', "Organisation's server", 'services'],
  ];
  return {
    running,
    started_at: '2026-03-04T14:29:00',
    checks: titles.map(([name, title, group]) => {
      const state = states[name] ?? 'ok';
      const next = 'Let the computer set its clock by the network.';
      const finding = { code: `${name}_code`, state, sentence: `${title} is off by 45 seconds.`, next_step: state === 'ok' ? '' : next };
      return { name, title, group, state, ms: 12, findings: state === 'waiting' ? [] : [finding] };
    }) as view.DoctorCheck[],
  } as view.Doctor;
}

/** So many recents: P. 0 to P. n-1, every third with its note exported. */
export function wireRecents(n: number): view.Recent[] {
  return Array.from({ length: n }, (_, i) => ({
    id: `r${i}`,
    label: `P. ${i}`,
    opened_at: new Date(now.getTime() - i * 60_000).toISOString(),
    status: i % 3 === 0 ? 'exported' : 'opened',
  }));
}

export function wireLaunch(stage: string, changes: Partial<view.Launch> = {}): view.Launch {
  return {
    id: 'l1',
    stage,
    started_at: '2026-03-04T14:29:59',
    ms: { received: 0, creating: 120 },
    reopen: false,
    label: '',
    retryable: false,
    recent_id: '',
    ...changes,
  };
}

export const signedOut: view.SignIn = { state: 'signed_out', memory_only: false, page_open: false };
export const signingIn: view.SignIn = { state: 'signing_in', memory_only: false, page_since: '2026-03-04T14:29:48', page_open: true };
export const signedIn: view.SignIn = {
  state: 'signed_in',
  person: { subject: '1', email: 'amara.lee@riverside.example' },
  memory_only: false,
  page_open: false,
};

/** What is shown when the agent sent this. */
export function showing(sent: view.Snapshot): Shown {
  const shown = new Shown();
  shown.agent = 'reachable';
  shown.about = { version: '1.2.3', language: 'en' };
  shown.seenAt = now;
  shown.snapshot = readSnapshot(sent);
  return shown;
}
