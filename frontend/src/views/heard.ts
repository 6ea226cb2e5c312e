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
    case 'home':
      if (snapshot?.launch?.stage === 'opened') return words.say('last.now_open');
      return snapshot?.launch?.stage === 'cancelled' ? words.say('last.now_cancelled') : '';
    default:
      return '';
  }
}
