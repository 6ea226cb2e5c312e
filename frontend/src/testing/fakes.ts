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
  signOut = () => this.#take('sign-out');
  openRecent = (id: string) => this.#take(`open-recent ${id}`);
  cancel = () => this.#take('cancel');
  retry = () => this.#take('retry');
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
    sign_in: { state: 'signed_in', person: { subject: '1', email: 'amara.lee@riverside.example' }, memory_only: false },
    policy: { ok: true, problems: [], refuses_launches: false },
    keyring: { code: '' },
    recents: [
      { id: 'r1', label: 'M. K.', opened_at: '2026-03-04T14:18:00', status: 'opened' },
      { id: 'r2', label: 'J. D.', opened_at: '2026-03-03T09:05:00', status: 'exported' },
    ],
    raise_window: 0,
    ...changes,
  };
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

export const signedOut: view.SignIn = { state: 'signed_out', memory_only: false };

/** What is shown when the agent sent this. */
export function showing(sent: view.Snapshot): Shown {
  const shown = new Shown();
  shown.agent = 'reachable';
  shown.about = { version: '1.2.3', language: 'en' };
  shown.seenAt = now;
  shown.snapshot = readSnapshot(sent);
  return shown;
}
