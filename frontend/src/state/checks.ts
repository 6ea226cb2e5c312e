import type { Check, CheckState, Doctor, Examined, Snapshot } from './types';

// The parts of the set-up in the order in which they are checked.
const order = ['policy', 'keyring', 'link', 'sign_in', 'backend'] as const;

/** Returns the newest look at the set-up, or what is known anyhow before the first one. */
export function checks(snapshot: Snapshot): readonly Check[] {
  if (snapshot.checkup !== null) return snapshot.checkup.checks;
  return order.map((name) => ({ name, state: known(name, snapshot), problem: problemOf(name, snapshot) }));
}

function known(name: (typeof order)[number], s: Snapshot): CheckState {
  switch (name) {
    case 'policy':
      return s.policy.ok ? 'ok' : 'problem';
    case 'keyring':
      return s.keyringCode === '' ? 'ok' : 'problem';
    case 'sign_in':
      return s.signIn.state === 'signed_in' ? 'ok' : 'waiting';
    case 'backend':
      return s.backend.state === 'reachable' ? 'ok' : s.backend.state === 'trouble' ? 'problem' : 'waiting';
    case 'link':
      return 'waiting';
  }
}

function problemOf(name: string, s: Snapshot): Check['problem'] {
  if (name === 'backend') return s.backend.problem;
  const code = name === 'keyring' ? s.keyringCode : name === 'policy' && !s.policy.ok ? 'policy_invalid' : '';
  return code === '' ? null : { code, sentence: '', nextStep: '', reference: '' };
}

/** Counts how far a look at the set-up is. */
export function progress(list: readonly Check[]): { done: number; total: number; problems: number } {
  return {
    done: list.filter((c) => c.state !== 'waiting' && c.state !== 'running').length,
    total: list.length,
    problems: list.filter((c) => c.state === 'problem').length,
  };
}

/** The groups of an examination, in the order in which they are read. */
export const groups = ['computer', 'network', 'services', 'others'] as const;
export type Group = (typeof groups)[number];

/** Returns an examination's checks of one group; those of no known group are the others. */
export function inGroup(doctor: Doctor, group: Group): readonly Examined[] {
  const known = (name: string) => name !== 'others' && groups.some((g) => g === name);
  return doctor.checks.filter((c) => (known(c.group) ? c.group === group : group === 'others'));
}

/** Counts how far an examination is. */
export function examined(doctor: Doctor): { done: number; total: number; problems: number } {
  return {
    done: doctor.checks.filter((c) => c.state !== 'waiting').length,
    total: doctor.checks.length,
    problems: doctor.checks.filter((c) => c.state === 'warning' || c.state === 'broken').length,
  };
}

/**
 * Returns what a help desk needs to know as plain text: versions, codes and
 * references. Never a name, an address or a label; the words are those of the
 * codes, the same in every language.
 */
export function summary(windowVersion: string, snapshot: Snapshot, now: Date): string {
  const { launch, signIn } = snapshot;
  const told = (p: { code: string; reference: string } | null) =>
    p === null ? '' : ` ${plain(p.code)}${p.reference === '' ? '' : ` ${plain(p.reference)}`}`;
  const lines = [
    `Encounter Launcher ${plain(windowVersion)}, agent ${plain(snapshot.version)}`,
    `at ${now.toISOString()}`,
    `language ${plain(snapshot.language)}`,
    `policy ${snapshot.policy.ok ? 'ok' : `findings ${snapshot.policy.problems.length}`}${snapshot.policy.refusesLaunches ? ' refuses_launches' : ''}`,
    `keyring ${snapshot.keyringCode === '' ? 'ok' : plain(snapshot.keyringCode)}`,
    `sign_in ${signIn.state}${signIn.memoryOnly ? ' memory_only' : ''}${told(signIn.problem)}`,
    `backend ${snapshot.backend.state}${told(snapshot.backend.problem)}`,
    `launch ${launch === null ? 'none' : `${launch.stage}${told(launch.problem)}`}`,
    ...(snapshot.checkup?.checks ?? []).map((c) => `check ${plain(c.name)} ${c.state}${told(c.problem)}`),
    ...(snapshot.doctor?.checks ?? []).map((c) => ['doctor', plain(c.name), c.state, ...c.findings.map((f) => plain(f.code))].join(' ')),
  ];
  return `${lines.join('\n')}\n`;
}

/** A code, reference or version as it is; anything else is not worth a help desk's eyes. */
function plain(text: string): string {
  return /^[\w.+-]{1,40}$/.test(text) ? text : '?';
}
