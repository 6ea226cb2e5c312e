import { checks, examined, progress } from '../state/checks';
import type { Screen, Trouble } from '../state/screen';
import type { Snapshot } from '../state/types';
import type { Words } from '../words/words';

/** What the live region says about a screen: one short sentence, or nothing where the heading says it. */
export function heard(shown: Screen, snapshot: Snapshot | null, trouble: Trouble | null, words: Words): string {
  switch (shown) {
    case 'launching':
      return snapshot?.launch ? words.say(`stage.${snapshot.launch.stage}`) : '';
    case 'sign_in':
      return words.say('signin.text');
    case 'problem':
      return trouble === null ? '' : `${trouble.problem.sentence} ${trouble.problem.nextStep}`;
    case 'agent_gone':
      return words.say('gone.text');
    case 'welcome':
      return snapshot === null ? '' : found(snapshot, words);
    case 'diagnostics':
      return snapshot === null ? '' : seen(snapshot, words);
    case 'home':
      if (snapshot?.launch?.stage === 'opened') return words.say('last.now_open');
      return snapshot?.launch?.stage === 'cancelled' ? words.say('last.now_cancelled') : '';
    default:
      return '';
  }
}

/** How far the look at the set-up is, or what it found; nothing before the first. */
export function found(snapshot: Snapshot, words: Words): string {
  if (snapshot.checkup === null) return '';
  const { done, total, problems } = progress(checks(snapshot));
  if (snapshot.checkup.running) return words.say('diagnostics.running', { done, total });
  return problems === 0 ? words.say('diagnostics.all_well') : words.say('diagnostics.problems', { problems, total });
}

/** How far the examination of the computer is, or what it found; where there is none, the look at the set-up. */
export function seen(snapshot: Snapshot, words: Words): string {
  if (snapshot.doctor === null) return found(snapshot, words);
  const { done, total, problems } = examined(snapshot.doctor);
  if (snapshot.doctor.running) return words.say('diagnostics.running', { done, total });
  return problems === 0 ? words.say('diagnostics.all_well') : words.say('diagnostics.problems', { problems, total });
}
