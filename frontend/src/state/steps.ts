import type { Launch, Stage } from './types';

export interface Step {
  readonly stage: Stage;
  readonly is: 'done' | 'now' | 'waiting';
  /** How long a finished step took, in milliseconds; null when not known. */
  readonly took: number | null;
}

const order: readonly Stage[] = ['received', 'signing_in', 'creating', 'opening', 'opened'];

/** The steps of a launch in their order; signing in only where it was needed. */
export function steps(launch: Launch): Step[] {
  const shown = order.filter((s) => s !== 'signing_in' || launch.stage === s || launch.ms[s] !== undefined);
  const current = shown.indexOf(launch.stage);
  return shown.map((stage, i) => ({
    stage,
    is: i < current || launch.stage === 'opened' ? 'done' : i === current ? 'now' : 'waiting',
    took: took(launch, stage, shown[i + 1]),
  }));
}

function took(launch: Launch, stage: Stage, next: Stage | undefined): number | null {
  const from = launch.ms[stage];
  const to = next === undefined ? undefined : launch.ms[next];
  return from === undefined || to === undefined || to < from ? null : to - from;
}
