import type { Agent, Hideable, Launch, Problem, Snapshot } from './types';

/** The places that a person can go to by the navigation. */
export type Place = 'home' | 'settings' | 'diagnostics' | 'about';

export type Screen = Place | 'connecting' | 'agent_gone' | 'sign_in' | 'launching' | 'problem' | 'welcome';

/** What the person chose to look at. */
export interface Looking {
  readonly place: Place;
  /** References of the problems that were put aside. */
  readonly putAside: readonly string[];
  /** Reference of the problem that was asked for again, however old; empty for none. */
  readonly again: string;
  /** The page of the first run was put aside. */
  readonly welcomed: boolean;
}

/** Where a window begins. */
export const start: Looking = { place: 'home', putAside: [], again: '', welcomed: false };

/**
 * How long after its start a failed launch still takes the whole window. Later
 * the overview mentions it: nobody wants to begin the day with yesterday's fault.
 */
export const freshFor = 10 * 60 * 1000;

/** Chooses the view. */
export function screen(agent: Agent, snapshot: Snapshot | null, seenAt: Date, looking: Looking): Screen {
  if (agent === 'agent_unreachable') return 'agent_gone';
  if (snapshot === null) return 'connecting';
  const { launch } = snapshot;
  if (launch !== null && !isOver(launch)) return launch.stage === 'signing_in' ? 'sign_in' : 'launching';
  if (snapshot.signIn.state === 'signing_in') return 'sign_in';
  const place = places(snapshot).find((p) => p === looking.place) ?? 'home';
  if (place !== 'home') return place;
  if (trouble(snapshot, seenAt, looking) !== null) return 'problem';
  if (snapshot.firstRun && snapshot.signIn.state === 'signed_out' && !looking.welcomed) return 'welcome';
  return 'home';
}

/** The places of the navigation, in their order. */
export function places(snapshot: Snapshot): Place[] {
  const all: readonly Place[] = ['home', 'settings', 'diagnostics', 'about'];
  return all.filter((p) => !(p === 'settings' || p === 'diagnostics') || !hides(snapshot, p));
}

/** Reports whether policy hides this from the window. */
export function hides(snapshot: Snapshot, what: Hideable): boolean {
  return snapshot.hidden.includes(what);
}

/** The problem that takes the whole window, and where it comes from. */
export interface Trouble {
  readonly problem: Problem;
  readonly from: 'launch' | 'sign_in';
  readonly launch: Launch | null;
}

/** Returns the problem to show: a fresh failed launch's, else the sign-in's; null when there is none. */
export function trouble(snapshot: Snapshot, seenAt: Date, looking: Looking): Trouble | null {
  const { launch, signIn } = snapshot;
  if (launch?.stage === 'failed' && launch.problem !== null) {
    const { reference } = launch.problem;
    const fresh = seenAt.getTime() - launch.startedAt.getTime() <= freshFor && !looking.putAside.includes(reference);
    if (fresh || reference === looking.again) return { problem: launch.problem, from: 'launch', launch };
  }
  if (signIn.state === 'signed_out' && signIn.problem !== null && !looking.putAside.includes(signIn.problem.reference)) {
    // What the person cancelled is no problem.
    if (signIn.problem.code !== 'signin_cancelled') return { problem: signIn.problem, from: 'sign_in', launch: null };
  }
  return null;
}

/** What the person can do about a problem. */
export type Remedy = 'retry' | 'sign_in' | 'fresh_link';

// Another try as the same person would end the same way.
const signInMends: readonly string[] = ['signin_needed', 'signin_failed', 'unauthorized', 'identity_unmapped', 'provider_mismatch'];

/** Returns what helps against a problem, the most likely first. */
export function remedies(trouble: Trouble, snapshot: Snapshot, now: Date): Remedy[] {
  const { launch, problem } = trouble;
  const retryable = launch?.retryable === true;
  const signedIn = snapshot.signIn.state === 'signed_in';
  const found: Remedy[] = [];
  // The launch signs in by itself when it is tried again, so one button is enough.
  if (signedIn ? signInMends.includes(problem.code) : !retryable) found.push('sign_in');
  if (retryable) found.push('retry');
  if (launch !== null && canRefresh(launch, now)) found.push('fresh_link');
  return found.filter((r) => r !== 'sign_in' || !hides(snapshot, 'sign-in'));
}

/** Reports whether a fresh link of this launch can still be asked for. */
export function canRefresh(launch: Launch, now: Date): boolean {
  return launch.freshUntil !== null && launch.freshUntil.getTime() > now.getTime();
}

/** Reports whether a launch has ended. */
export function isOver(launch: Launch): boolean {
  return launch.stage === 'opened' || launch.stage === 'failed' || launch.stage === 'cancelled';
}
