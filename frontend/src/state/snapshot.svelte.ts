import type { About, Agent, Snapshot } from './types';

/**
 * What is shown: the agent's last snapshot and whether the agent answers. Only
 * the bridge writes to it; views read.
 */
export class Shown {
  agent = $state<Agent>('connecting');
  snapshot = $state.raw<Snapshot | null>(null);
  /** When the snapshot came, by this computer's clock. */
  seenAt = $state.raw<Date>(new Date(0));
  about = $state.raw<About>({ version: '', language: '' });
}
