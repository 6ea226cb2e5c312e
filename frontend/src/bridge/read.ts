import type { main, view } from '../../wailsjs/go/models';
import {
  checkStates,
  examinedStates,
  stages,
  type About,
  type Backend,
  type Checkup,
  type Doctor,
  type ExaminedState,
  type Launch,
  type Problem,
  type Recent,
  type Setting,
  type Snapshot,
  type Stage,
} from '../state/types';
import { inert } from './inert';

// The wire is Go's JSON: a nil slice or pointer is null whatever the generated
// types say, and a newer agent may know words that this page does not.

const mostRecents = 500;
const mostFindings = 50;
const mostOfOthers = 30;
const mostExamined = 40;

/** Reads a snapshot off the wire. It never throws, whatever it is given. */
export function readSnapshot(wire: view.Snapshot): Snapshot {
  const w: Loose<view.Snapshot> = isObject(wire) ? wire : {};
  const signIn: Loose<view.SignIn> = w.sign_in ?? {};
  const policy: Loose<view.Policy> = w.policy ?? {};
  const workstation: Loose<view.Workstation> = w.workstation ?? {};
  const state = signIn.state;
  return {
    version: inert(w.version, 40),
    organisation: inert(w.organization_name, 80),
    helpDesk: inert(w.help_desk_url, 200),
    language: inert(w.language, 35),
    locale: inert(w.locale, 35),
    hidden: list(w.hidden)
      .slice(0, mostOfOthers)
      .map((h) => inert(h, 40)),
    firstRun: w.first_run === true,
    signIn: {
      state: state === 'signed_in' || state === 'signing_in' ? state : 'signed_out',
      email: inert(signIn.person?.email, 120),
      memoryOnly: signIn.memory_only === true,
      endsAt: dateOf(signIn.ends_at),
      pageSince: dateOf(signIn.page_since),
      pageOpen: signIn.page_open === true,
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
    backend: readBackend(w.backend),
    link: readLink(w.link),
    workstation: {
      shared: workstation.shared === true,
      signOutOnLock: workstation.sign_out_on_lock === true,
      idleMinutes: countOf(workstation.idle_sign_out_minutes),
    },
    launch: readLaunch(w.launch),
    recents: list(w.recents).slice(0, mostRecents).flatMap(readRecent),
    undo: readUndo(w.undo),
    settings: list(w.settings).slice(0, mostOfOthers).flatMap(readSetting),
    checkup: readCheckup(w.checkup),
    doctor: readDoctor(w.doctor),
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
    freshUntil: dateOf(wire.fresh_until),
  };
}

function readBackend(wire: view.Backend | null | undefined): Backend {
  const { state, problem, at }: Loose<view.Backend> = isObject(wire) ? wire : {};
  return {
    state: state === 'reachable' || state === 'trouble' ? state : 'unknown',
    problem: readProblem(problem),
    at: dateOf(at),
  };
}

function readLink(wire: view.Link | null | undefined): Snapshot['link'] {
  const { state }: Loose<view.Link> = isObject(wire) ? wire : {};
  return state === 'ours' || state === 'other' || state === 'nobody' ? state : 'unknown';
}

function readUndo(wire: view.Undo | null | undefined): Snapshot['undo'] {
  if (!isObject(wire)) return null;
  const until = dateOf(wire.until);
  return until === null ? null : { removed: countOf(wire.removed), until };
}

// Keys and values go back to the agent as they came; a value that inert would
// change is none of the agent's and cannot be chosen.
function readSetting(wire: view.Setting): Setting[] {
  if (!isObject(wire) || !isWord(wire.key)) return [];
  return [
    {
      key: wire.key,
      kind: wire.kind === 'yes_no' ? 'yes_no' : 'choice',
      value: isWord(wire.value) ? wire.value : '',
      choices: list(wire.choices).slice(0, mostOfOthers).filter(isWord),
      locked: wire.locked === true,
      source: inert(wire.source, 60),
    },
  ];
}

function readCheckup(wire: view.Checkup | null | undefined): Checkup | null {
  if (!isObject(wire)) return null;
  return {
    running: wire.running === true,
    startedAt: dateOf(wire.started_at) ?? new Date(0),
    checks: list(wire.checks)
      .slice(0, mostOfOthers)
      .filter(isObject)
      .map((check) => ({
        name: inert(check.name, 60),
        state: checkStates.find((s) => s === check.state) ?? 'waiting',
        problem: readProblem(check.problem),
      })),
  };
}

function readDoctor(wire: view.Doctor | null | undefined): Doctor | null {
  if (!isObject(wire)) return null;
  return {
    running: wire.running === true,
    startedAt: dateOf(wire.started_at) ?? new Date(0),
    checks: list(wire.checks)
      .slice(0, mostExamined)
      .filter(isObject)
      .map((check) => ({
        name: inert(check.name, 40),
        title: inert(check.title, 80),
        group: inert(check.group, 20),
        state: examinedState(check.state),
        findings: list(check.findings)
          .slice(0, mostExamined)
          .filter(isObject)
          .map((finding) => ({
            code: inert(finding.code, 40),
            state: examinedState(finding.state),
            sentence: inert(finding.sentence, 400),
            nextStep: inert(finding.next_step, 400),
          })),
      })),
  };
}

// A state of a newer agent counts as one to look at.
function examinedState(state: unknown): ExaminedState {
  return examinedStates.find((s) => s === state) ?? 'warning';
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

function isWord(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && inert(value, 60) === value;
}

function countOf(value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : 0;
}

function stageOf(value: unknown): Stage | null {
  return stages.find((s) => s === value) ?? null;
}

function dateOf(value: unknown): Date | null {
  if (typeof value !== 'string') return null;
  const at = new Date(value);
  return Number.isNaN(at.getTime()) ? null : at;
}
