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
}

export interface Recent {
  readonly id: string;
  readonly label: string;
  readonly openedAt: Date;
  readonly status: 'opened' | 'exported';
}

export interface Snapshot {
  readonly version: string;
  readonly organisation: string;
  readonly helpDesk: string;
  readonly language: string;
  /** How times are written, such as "en-GB". */
  readonly locale: string;
  readonly signIn: {
    readonly state: SignInState;
    /** E-mail or, failing that, nothing: a subject says nothing to people. */
    readonly email: string;
    readonly memoryOnly: boolean;
    readonly problem: Problem | null;
  };
  readonly policy: {
    readonly ok: boolean;
    readonly problems: readonly string[];
    readonly refusesLaunches: boolean;
  };
  /** Empty when all is well. */
  readonly keyringCode: string;
  readonly launch: Launch | null;
  readonly recents: readonly Recent[];
}

export interface About {
  readonly version: string;
  readonly language: string;
}
