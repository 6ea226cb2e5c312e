import en from './en.json';

// The catalogue is written by the Go room internal/text; a key that is not in
// it does not compile here.
export type Key = keyof typeof en;

type Catalogue = Readonly<Partial<Record<string, string>>>;

const english: Catalogue = en;
const catalogues: Readonly<Record<string, Catalogue>> = { en: english };

/** The words, dates and times of one language. */
export interface Words {
  /** The language that was found, a BCP 47 tag. */
  readonly language: string;
  /** The word for a key, with {placeholders} filled in. */
  say(key: Key, values?: Readonly<Record<string, string | number>>): string;
  /** The sentence and next step of a problem's code; null where the catalogue has none. */
  problem(code: string): { sentence: string; nextStep: string } | null;
  /** A time of day; with the day before it when it is not the day of now. */
  when(at: Date, now: Date): string;
  /** Seconds with one decimal below ten, else whole. */
  seconds(ms: number): string;
}

/**
 * Returns the words of a language, of its base language, or English. Times follow
 * the system's region where it speaks the same language: "en-GB" writes 14:02
 * where "en-US" writes 2:02 PM.
 */
export function wordsFor(language: string, system: string = navigator.language): Words {
  const found = [language, language.split('-')[0] ?? ''].find((l) => Object.hasOwn(catalogues, l)) ?? 'en';
  const catalogue = catalogues[found] ?? english;
  const locale = [language, system].find((l) => l !== found && l.startsWith(`${found}-`) && supported(l)) ?? found;
  const clock = new Intl.DateTimeFormat(locale, { timeStyle: 'short' });
  const day = new Intl.DateTimeFormat(locale, { day: 'numeric', month: 'short' });
  const relative = new Intl.RelativeTimeFormat(locale, { numeric: 'auto' });
  const short = new Intl.NumberFormat(locale, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const whole = new Intl.NumberFormat(locale, { maximumFractionDigits: 0 });

  return {
    language: found,
    say: (key, values = {}) =>
      (catalogue[key] ?? english[key] ?? key).replace(/\{(\w+)\}/g, (hole, name: string) =>
        Object.hasOwn(values, name) ? String(values[name]) : hole,
      ),
    problem: (code) => {
      const sentence = catalogue[`problem.${code}.sentence`];
      const nextStep = catalogue[`problem.${code}.next`];
      return sentence !== undefined && nextStep !== undefined ? { sentence, nextStep } : null;
    },
    when: (at, now) => {
      switch (daysBetween(at, now)) {
        case 0:
          return clock.format(at);
        case 1:
          return `${capital(relative.format(-1, 'day'), locale)}, ${clock.format(at)}`;
        default:
          return `${day.format(at)}, ${clock.format(at)}`;
      }
    },
    seconds: (ms) => (ms < 9_950 ? short : whole).format(Math.max(0, ms) / 1000),
  };
}

function supported(language: string): boolean {
  try {
    return Intl.DateTimeFormat.supportedLocalesOf(language).length > 0;
  } catch {
    return false;
  }
}

function capital(text: string, locale: string): string {
  return text.slice(0, 1).toLocaleUpperCase(locale) + text.slice(1);
}

function daysBetween(at: Date, now: Date): number {
  const midnight = (d: Date) => Date.UTC(d.getFullYear(), d.getMonth(), d.getDate());
  return Math.round((midnight(now) - midnight(at)) / 86_400_000);
}
