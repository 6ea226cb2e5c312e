import type { main, view } from '../../wailsjs/go/models';
import { stages, type About, type Launch, type Problem, type Recent, type Snapshot, type Stage } from '../state/types';
import { inert } from './inert';

// The wire is Go's JSON: a nil slice or pointer is null whatever the generated
// types say, and a newer agent may know words that this page does not.

const mostRecents = 500;
const mostFindings = 50;

/** Reads a snapshot off the wire. It never throws, whatever it is given. */
export function readSnapshot(wire: view.Snapshot): Snapshot {
  const w: Loose<view.Snapshot> = isObject(wire) ? wire : {};
  const signIn: Loose<view.SignIn> = w.sign_in ?? {};
  const policy: Loose<view.Policy> = w.policy ?? {};
  const state = signIn.state;
  return {
    version: inert(w.version, 40),
    organisation: inert(w.organization_name, 80),
    helpDesk: inert(w.help_desk_url, 200),
    language: inert(w.language, 35),
    locale: inert(w.locale, 35),
    signIn: {
      state: state === 'signed_in' || state === 'signing_in' ? state : 'signed_out',
      email: inert(signIn.person?.email, 120),
      memoryOnly: signIn.memory_only === true,
      problem: readProblem(signIn.problem),
    },
    policy: {
      ok: policy.ok === true,
      problems: list(policy.problems)
        .slice(0, mostFindings)
        .map((p) => inert(p, 300)),
      refusesLaunches: policy.refuses_launches === true,
    },
    keyringCode: inert(w.keyring?.code, 40),
    launch: readLaunch(w.launch),
    recents: list(w.recents).slice(0, mostRecents).flatMap(readRecent),
  };
}

/** Reads a problem off the wire; null when there is none. */
export function readProblem(wire: view.Problem | null | undefined): Problem | null {
  if (!isObject(wire)) return null;
  return {
    code: inert(wire.code, 40),
    sentence: inert(wire.sentence, 400),
    nextStep: inert(wire.next_step, 400),
    reference: inert(wire.reference, 32),
  };
}

/** Reads what the program says about itself. */
export function readAbout(wire: main.About): About {
  return { version: inert(wire?.version, 40), language: inert(wire?.language, 35) };
}

function readLaunch(wire: view.Launch | null | undefined): Launch | null {
  if (!isObject(wire)) return null;
  return {
    id: typeof wire.id === 'string' ? wire.id : '',
    // A stage of a newer agent counts as one under way.
    stage: stageOf(wire.stage) ?? 'received',
    problem: readProblem(wire.problem),
    startedAt: dateOf(wire.started_at) ?? new Date(0),
    ms: Object.fromEntries(
      Object.entries(wire.ms ?? {}).filter(
        ([stage, ms]) => stageOf(stage) !== null && typeof ms === 'number' && Number.isFinite(ms) && ms >= 0,
      ),
    ),
    reopen: wire.reopen === true,
    label: inert(wire.label, 80),
    retryable: wire.retryable === true,
    recentId: typeof wire.recent_id === 'string' ? wire.recent_id : '',
  };
}

function readRecent(wire: view.Recent): Recent[] {
  const openedAt = dateOf(wire?.opened_at);
  if (!isObject(wire) || typeof wire.id !== 'string' || wire.id === '' || openedAt === null) return [];
  return [
    { id: wire.id, label: inert(wire.label, 80), openedAt, status: wire.status === 'exported' ? 'exported' : 'opened' },
  ];
}

type Loose<T> = { readonly [K in keyof T]?: T[K] | null };

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function list<T>(value: T[] | null | undefined): T[] {
  return Array.isArray(value) ? value : [];
}

function stageOf(value: unknown): Stage | null {
  return stages.find((s) => s === value) ?? null;
}

function dateOf(value: unknown): Date | null {
  if (typeof value !== 'string') return null;
  const at = new Date(value);
  return Number.isNaN(at.getTime()) ? null : at;
}
