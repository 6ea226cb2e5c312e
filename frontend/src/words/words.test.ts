import { expect, test } from 'vitest';
import moments from '../../../internal/text/testdata/times.json';
import de from './de.json';
import en from './en.json';
import es from './es.json';
import fr from './fr.json';
import { Spoken } from './spoken.svelte';
import { wordsFor, type Catalogue } from './words';

const catalogues: Readonly<Record<string, Catalogue>> = { en, fr, es, de };

test('placeholders are filled, and a missing value leaves its hole', () => {
  const words = wordsFor('en');
  expect(words.say('launching.elapsed', { seconds: '1.0' })).toBe('1.0 s');
  expect(words.say('launching.elapsed')).toBe('{seconds} s');
  expect(words.say('launching.elapsed', { seconds: '{seconds}' })).toBe('{seconds} s');
});

test('a moment is written as the tray writes it', () => {
  const now = new Date(moments.now);
  const wrong = moments.cases.flatMap(({ locale, at, text }) => {
    const language = locale.slice(0, 2);
    const got = wordsFor(language, locale, catalogues[language]).when(new Date(at), now);
    return got === text ? [] : [`${locale} ${at}: ${got} instead of ${text}`];
  });
  expect(wrong).toEqual([]);
});

test('a locale of another language, or none, is 24 hours and the day first', () => {
  const now = new Date('2026-03-04T00:10:00');
  for (const locale of ['fr-US', 'en', '', 'constructor', 'en-USA', 'en-us']) {
    expect(wordsFor('en', locale).when(new Date('2026-02-02T23:55:00'), now)).toBe('2 Feb, 23:55');
  }
  expect(wordsFor('en', 'en-US').when(new Date('2026-02-02T23:55:00'), now)).toBe('Feb 2, 11:55\u00a0PM');
});

test('seconds have a decimal below ten, as the locale writes it, and are never negative', () => {
  expect([-5, 0, 940, 9_949, 9_950, 61_000].map(wordsFor('en').seconds)).toEqual(['0.0', '0.0', '0.9', '9.9', '10', '61']);
  expect(wordsFor('de', 'de-AT', de).seconds(940)).toBe('0,9');
});

test('a code without words has none', () => {
  expect(wordsFor('en').problem('keyring_locked')?.sentence).toMatch(/locked/);
  expect(wordsFor('fr', 'fr-FR', fr).problem('keyring_locked')?.sentence).toMatch(/verrouillé/);
  expect(wordsFor('en').problem('no_such_code')).toBeNull();
  expect(wordsFor('en').problem('internal')).not.toBeNull();
});

test('the page speaks as before until the other catalogue is there', async () => {
  let arrive = (_: { default: Catalogue }) => {};
  const spoken = new Spoken({ fr: () => new Promise((resolve) => (arrive = resolve)), de: () => Promise.resolve({ default: de }) });
  const said = () => spoken.words('').say('home.sign_in');
  const french = spoken.speak('fr-CA');
  expect([said(), spoken.words('').language]).toEqual(['Sign in', 'en']);
  arrive({ default: fr });
  await french;
  expect([said(), spoken.words('').language]).toEqual(['Se connecter', 'fr']);
  await spoken.speak('');
  expect(said()).toBe('Se connecter');
  await spoken.speak('de');
  expect(said()).toBe('Anmelden');
  await spoken.speak('tlh');
  expect(said()).toBe('Sign in');
});

test('the language that was asked for last is spoken, whichever arrives first', async () => {
  let arrive = (_: { default: Catalogue }) => {};
  const spoken = new Spoken({ fr: () => new Promise((resolve) => (arrive = resolve)), de: () => Promise.resolve({ default: de }) });
  const french = spoken.speak('fr');
  await spoken.speak('de');
  arrive({ default: fr });
  await french;
  expect(spoken.words('').language).toBe('de');
});

test('a catalogue that cannot be loaded changes nothing', async () => {
  const spoken = new Spoken({ fr: () => Promise.reject(new Error('gone')) });
  await spoken.speak('fr');
  for (const tag of ['', 'en-GB', '../etc', 'constructor', '__proto__']) await spoken.speak(tag);
  expect(spoken.words('en').say('home.sign_in')).toBe('Sign in');
});

test('every language of the program can be loaded', async () => {
  for (const language of ['fr', 'es', 'de']) {
    const spoken = new Spoken();
    await spoken.speak(language);
    expect(spoken.words(language).say('home.sign_in')).toBe(catalogues[language]?.['home.sign_in']);
  }
});
