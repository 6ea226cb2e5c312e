import type { Agent, Launch, Problem, Snapshot } from './types';

export type Screen = 'connecting' | 'agent_gone' | 'about' | 'sign_in' | 'launching' | 'problem' | 'home';

/** What the person chose to look at. */
export interface Looking {
  readonly about: boolean;
  /** References of the problems that were put aside. */
  readonly putAside: readonly string[];
  /** Reference of the problem that was asked for again, however old; empty for none. */
  readonly again: string;
}

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
  if (looking.about) return 'about';
  return trouble(snapshot, seenAt, looking) === null ? 'home' : 'problem';
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

/** Reports whether a launch has ended. */
export function isOver(launch: Launch): boolean {
  return launch.stage === 'opened' || launch.stage === 'failed' || launch.stage === 'cancelled';
}
