import { expect, test } from 'vitest';
import en from './en.json';
import { wordsFor } from './words';

const sources = import.meta.glob<string>(['../**/*.svelte', '../**/*.ts', '!../**/*.test.ts'], {
  query: '?raw',
  import: 'default',
  eager: true,
});

// The sections of the catalogue that only the window reads.
const ours = ['window', 'home', 'last', 'recents', 'launching', 'signin', 'trouble', 'about', 'gone'];

test('every word of the window is used', () => {
  const all = Object.values(sources).join('\n');
  const unused = Object.keys(en).filter(
    (key) => ours.includes(key.split('.')[0] ?? '') && !all.includes(`'${key}'`),
  );
  expect(unused).toEqual([]);
});

test('an unknown language falls back to its base, then to English', () => {
  expect(wordsFor('en-GB').language).toBe('en');
  for (const language of ['', 'tlh', '../etc', 'constructor']) expect(wordsFor(language).language).toBe('en');
});

test('placeholders are filled, and a missing value leaves its hole', () => {
  const words = wordsFor('en');
  expect(words.say('launching.elapsed', { seconds: '1.0' })).toBe('1.0 s');
  expect(words.say('launching.elapsed')).toBe('{seconds} s');
  expect(words.say('launching.elapsed', { seconds: '{seconds}' })).toBe('{seconds} s');
});

test('times follow the region, and the day is named when it is not today', () => {
  const now = new Date('2026-03-04T00:10:00');
  const british = wordsFor('en', 'en-GB');
  expect(british.when(new Date('2026-03-04T00:05:00'), now)).toBe('00:05');
  expect(british.when(new Date('2026-03-03T23:55:00'), now)).toBe('Yesterday, 23:55');
  expect(british.when(new Date('2026-03-02T23:55:00'), now)).toBe('2 Mar, 23:55');
  expect(wordsFor('en', 'fr-FR').when(new Date('2026-03-04T00:05:00'), now)).toMatch(/^12:05\sAM$/);
});

test('seconds have a decimal below ten and are never negative', () => {
  const words = wordsFor('en');
  expect([-5, 0, 940, 9_949, 9_950, 61_000].map(words.seconds)).toEqual(['0.0', '0.0', '0.9', '9.9', '10', '61']);
});

test('a code without words has none', () => {
  expect(wordsFor('en').problem('keyring_locked')?.sentence).toMatch(/locked/);
  expect(wordsFor('en').problem('no_such_code')).toBeNull();
  expect(wordsFor('en').problem('internal')).not.toBeNull();
});
