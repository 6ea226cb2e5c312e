import { english, wordsFor, type Catalogue, type Words } from './words';

type Load = () => Promise<{ default: Catalogue }>;

// Only English is in the page from the start; each other language is a file of
// its own, so that nobody loads what nobody reads.
const others: Readonly<Record<string, Load>> = {
  fr: () => import('./fr.json'),
  es: () => import('./es.json'),
  de: () => import('./de.json'),
};

/**
 * The language that the page speaks now. A change takes effect when the whole
 * catalogue is there: until then the page speaks as before, and never in keys.
 */
export class Spoken {
  #now = $state.raw<{ language: string; catalogue: Catalogue }>({ language: 'en', catalogue: english });
  #wanted = 'en';
  readonly #others: Readonly<Record<string, Load>>;

  constructor(load: Readonly<Record<string, Load>> = others) {
    this.#others = load;
  }

  /**
   * Speaks the language of a BCP 47 tag, or English where there is no catalogue; an
   * empty tag changes nothing. It never throws: what cannot be loaded is not spoken.
   */
  async speak(tag: string): Promise<void> {
    if (tag === '') return;
    const base = tag.split('-')[0]?.toLowerCase() ?? '';
    const language = Object.hasOwn(this.#others, base) ? base : 'en';
    this.#wanted = language;
    const load = this.#others[language];
    let catalogue = english;
    if (language !== 'en' && load !== undefined) {
      try {
        catalogue = (await load()).default;
      } catch {
        return;
      }
    }
    // Somebody may have chosen another one meanwhile.
    if (this.#wanted === language && this.#now.language !== language) this.#now = { language, catalogue };
  }

  /** The words of now, with times as in the locale. */
  words(locale: string): Words {
    return wordsFor(this.#now.language, locale, this.#now.catalogue);
  }
}
