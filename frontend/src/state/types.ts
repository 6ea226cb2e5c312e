// What the window can show, narrowed from the snapshot of the Go room
// internal/view. Every text in it is already inert: see bridge/inert.ts.

export const stages = ['received', 'signing_in', 'creating', 'opening', 'opened', 'failed', 'cancelled'] as const;
export type Stage = (typeof stages)[number];

export type SignInState = 'signed_out' | 'signing_in' | 'signed_in';

export type Agent = 'connecting' | 'reachable' | 'agent_unreachable';

export interface Problem {
  readonly code: string;
  readonly sentence: string;
  readonly nextStep: string;
  readonly reference: string;
}

export interface Launch {
  readonly id: string;
  readonly stage: Stage;
  readonly problem: Problem | null;
  readonly startedAt: Date;
  /** Milliseconds from arrival to each stage that was reached. */
  readonly ms: Readonly<Partial<Record<Stage, number>>>;
  readonly reopen: boolean;
  readonly label: string;
  readonly retryable: boolean;
  /** The recent entry of an opened launch; empty when there is none. */
  readonly recentId: string;
  /** Until when a fresh link of it can be asked for; null when it cannot. */
  readonly freshUntil: Date | null;
}

export interface Recent {
  readonly id: string;
  readonly label: string;
  readonly openedAt: Date;
  readonly status: 'opened' | 'exported';
}

/** The organisation's backend as it was met last. */
export interface Backend {
  readonly state: 'unknown' | 'reachable' | 'trouble';
  readonly problem: Problem | null;
  readonly at: Date | null;
}

/** One thing that a person can choose, and who decides now. */
export interface Setting {
  readonly key: string;
  readonly kind: 'choice' | 'yes_no';
  /** A word out of choices, "true" or "false", or empty when unset. */
  readonly value: string;
  readonly choices: readonly string[];
  readonly locked: boolean;
  readonly source: string;
}

export const checkStates = ['waiting', 'running', 'ok', 'problem', 'skipped'] as const;
export type CheckState = (typeof checkStates)[number];

export interface Check {
  readonly name: string;
  readonly state: CheckState;
  readonly problem: Problem | null;
}

/** One look at the set-up. */
export interface Checkup {
  readonly running: boolean;
  readonly startedAt: Date;
  readonly checks: readonly Check[];
}

export const examinedStates = ['waiting', 'ok', 'skipped', 'warning', 'broken'] as const;
export type ExaminedState = (typeof examinedStates)[number];

/** One thing that the examination of the computer found, in the agent's words. */
export interface Finding {
  readonly code: string;
  readonly state: ExaminedState;
  readonly sentence: string;
  /** Empty where there is nothing to do. */
  readonly nextStep: string;
}

export interface Examined {
  readonly name: string;
  readonly title: string;
  readonly group: string;
  readonly state: ExaminedState;
  readonly findings: readonly Finding[];
}

/** One examination of the computer by the command “doctor”. */
export interface Doctor {
  readonly running: boolean;
  readonly startedAt: Date;
  readonly checks: readonly Examined[];
}

/** What policy can hide. */
export type Hideable = 'sign-in' | 'sign-out' | 'recents' | 'settings' | 'diagnostics' | 'quit';

export interface Snapshot {
  readonly version: string;
  readonly organisation: string;
  readonly helpDesk: string;
  readonly language: string;
  /** How times and dates are written, a BCP 47 tag. */
  readonly locale: string;
  readonly hidden: readonly string[];
  /** Nobody has signed in under this account yet. */
  readonly firstRun: boolean;
  readonly signIn: {
    readonly state: SignInState;
    /** E-mail or, failing that, nothing: a subject says nothing to people. */
    readonly email: string;
    readonly memoryOnly: boolean;
    /** When the sign-in ends; null when no end is known. */
    readonly endsAt: Date | null;
    /** When the sign-in page was opened, and whether it can be shown again. */
    readonly pageSince: Date | null;
    readonly pageOpen: boolean;
    readonly problem: Problem | null;
  };
  readonly policy: {
    readonly ok: boolean;
    readonly problems: readonly string[];
    readonly refusesLaunches: boolean;
  };
  /** Empty when all is well. */
  readonly keyringCode: string;
  readonly backend: Backend;
  /** To whom the links of the EHR come; other and nobody are amiss. */
  readonly link: 'ours' | 'other' | 'nobody' | 'unknown';
  readonly workstation: {
    readonly shared: boolean;
    readonly signOutOnLock: boolean;
    /** 0 for never. */
    readonly idleMinutes: number;
  };
  readonly launch: Launch | null;
  readonly recents: readonly Recent[];
  /** What of the recents can still be taken back. */
  readonly undo: { readonly removed: number; readonly until: Date } | null;
  readonly settings: readonly Setting[];
  /** The newest look at the set-up; null until one was asked for. */
  readonly checkup: Checkup | null;
  /** The newest examination of the computer; null until one was asked for, or where none can be made. */
  readonly doctor: Doctor | null;
}

export interface About {
  readonly version: string;
  readonly language: string;
}
