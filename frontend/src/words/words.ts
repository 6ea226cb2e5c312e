import en from './en.json';

// The catalogues are written by the Go room internal/text; a key that is not in
// them does not compile here.
export type Key = keyof typeof en;
export type Catalogue = Readonly<Record<Key, string>>;

export const english: Catalogue = en;

/** The words, dates and times of one language. */
export interface Words {
  /** The language, a BCP 47 tag. */
  readonly language: string;
  /** The word for a key, with {placeholders} filled in. */
  say(key: Key, values?: Readonly<Record<string, string | number>>): string;
  /** The sentence and next step of a problem's code; null where the catalogue has none. */
  problem(code: string): { sentence: string; nextStep: string } | null;
  /**
   * A moment as short as it stays clear: the time alone today, else with its day. It
   * reads well in brackets, after a colon and in a row; it is no part of a sentence.
   */
  when(at: Date, now: Date): string;
  /** Seconds with one decimal below ten, else whole. */
  seconds(ms: number): string;
}

const weekdays = [
  'time.sunday', 'time.monday', 'time.tuesday', 'time.wednesday', 'time.thursday', 'time.friday', 'time.saturday',
] as const satisfies readonly Key[];

const months = [
  'time.january', 'time.february', 'time.march', 'time.april', 'time.may', 'time.june',
  'time.july', 'time.august', 'time.september', 'time.october', 'time.november', 'time.december',
] as const satisfies readonly Key[];

/**
 * Returns the words of a catalogue. Times are written as in the locale: "en-GB"
 * writes 14:02 where "en-US" writes 2:02 PM; without a region it is 24 hours and
 * the day before the month. They are the catalogue's and not the webview's, so
 * that tray and window write a moment alike: see internal/text/when.go.
 */
export function wordsFor(language: string, locale: string = language, catalogue: Catalogue = english): Words {
  const region = regionOf(language, locale);
  const has = (list: Key) => region !== '' && catalogue[list].split(' ').includes(region);
  const twelve = has('time.twelve_hour_regions');
  const monthFirst = has('time.month_first_regions');
  // Made when a launch counts its seconds: making one takes the webview 5 ms.
  const made: Intl.NumberFormat[] = [];
  const number = (digits: 0 | 1) =>
    (made[digits] ??= new Intl.NumberFormat(region === '' ? language : `${language}-${region}`, {
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
    }));

  const say: Words['say'] = (key, values = {}) =>
    (catalogue[key] ?? english[key] ?? key).replace(/\{(\w+)\}/g, (hole, name: string) =>
      Object.hasOwn(values, name) ? String(values[name]) : hole,
    );
  const clock = (at: Date) => {
    const minute = String(at.getMinutes()).padStart(2, '0');
    const hour = at.getHours();
    if (!twelve) return say('time.clock', { hour: String(hour).padStart(2, '0'), minute });
    return say('time.clock_twelve', { hour: hour % 12 || 12, minute, half: say(hour < 12 ? 'time.am' : 'time.pm') });
  };
  const date = (at: Date, withYear: boolean) => {
    const parts = { day: at.getDate(), month: say(months[at.getMonth()] ?? 'time.january'), year: at.getFullYear() };
    if (withYear) return say(monthFirst ? 'time.date_year_month_first' : 'time.date_year', parts);
    return say(monthFirst ? 'time.date_month_first' : 'time.date', parts);
  };

  return {
    language,
    say,
    problem: (code) => {
      const known: Readonly<Partial<Record<string, string>>> = catalogue;
      const sentence = known[`problem.${code}.sentence`];
      const nextStep = known[`problem.${code}.next`];
      return sentence !== undefined && nextStep !== undefined ? { sentence, nextStep } : null;
    },
    when: (at, now) => {
      const days = daysBetween(at, now);
      if (days === 0) return say('time.today', { clock: clock(at) });
      if (days === 1) return say('time.yesterday', { clock: clock(at) });
      if (days > 1 && days < 7) {
        return say('time.this_week', { weekday: say(weekdays[at.getDay()] ?? 'time.sunday'), clock: clock(at) });
      }
      if (at.getFullYear() === now.getFullYear()) return say('time.this_year', { date: date(at, false), clock: clock(at) });
      return say('time.earlier', { date: date(at, true) });
    },
    seconds: (ms) => number(ms < 9_950 ? 1 : 0).format(Math.max(0, ms) / 1000),
  };
}

/** The region of a locale that speaks the language; empty for none. The agent sends no other form. */
function regionOf(language: string, locale: string): string {
  const found = /^([a-z]{2,3})-([A-Z]{2}|[0-9]{3})$/.exec(locale);
  return found?.[1] === language ? (found[2] ?? '') : '';
}

/** Counts midnights, not hours: a day with a change of summer time has 23 or 25. */
function daysBetween(at: Date, now: Date): number {
  const midnight = (d: Date) => Date.UTC(d.getFullYear(), d.getMonth(), d.getDate());
  return Math.round((midnight(now) - midnight(at)) / 86_400_000);
}
