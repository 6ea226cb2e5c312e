import { render, screen as page, waitFor } from '@testing-library/svelte';
import { flushSync, tick } from 'svelte';
import { expect, test, vi } from 'vitest';
import { readSnapshot } from '../bridge/read';
import type { Recent, Snapshot } from '../state/types';
import { FakeBridge, now, wire, wireRecents } from '../testing/fakes';
import { wordsFor } from '../words/words';
import { moved, settledAfter } from './moved';
import Recents from './Recents.svelte';

// What the webview says of the end of the list, which has no place in these tests.
let told: () => void = () => {};
vi.stubGlobal(
  'IntersectionObserver',
  class {
    constructor(tell: (seen: { isIntersecting: boolean }[]) => void) {
      told = () => tell([{ isIntersecting: true }]);
    }
    observe() {}
    disconnect() {
      told = () => {};
    }
  },
);
const scrollToTheEnd = () => {
  told();
  flushSync();
};

const entry = (id: string): Recent => ({ id, label: id.toUpperCase(), openedAt: now, status: 'opened' });
const letters = (ids: string[]) => ids.map(entry);
const read = (n: number) => readSnapshot(wire({ recents: wireRecents(n) })).recents;
const undo: Snapshot['undo'] = { removed: 1, until: new Date(now.getTime() + 10_000) };

function list(given: string[] | readonly Recent[], more: { undo?: Snapshot['undo'] } = {}) {
  let time = 0;
  const bridge = new FakeBridge();
  const heard: string[] = [];
  const props = {
    recents: given.map((r) => (typeof r === 'string' ? entry(r) : r)),
    undo: null,
    signedIn: true,
    now,
    words: wordsFor('en', 'en-US'),
    intents: bridge,
    busy: false,
    ask: async (intent: () => Promise<unknown>) => (await intent()) === null,
    hear: (text: string) => heard.push(text),
    clock: () => time,
    ...more,
  };
  const { rerender, unmount } = render(Recents, props);
  const click = (name: string | RegExp, detail: number) => {
    page.getByRole('button', { name }).dispatchEvent(new MouseEvent('click', { detail, bubbles: true }));
    flushSync();
  };
  return {
    asked: bridge.asked,
    heard,
    click,
    press: (id: string, detail: number) => click(new RegExp(`^Reopen ${id.toUpperCase()},`), detail),
    change: (next: string[]) => rerender({ recents: letters(next) }),
    rerender,
    unmount,
    wait: (ms: number) => (time += ms),
  };
}

const field = () => page.getByRole<HTMLInputElement>('searchbox');
const type = (text: string) => {
  field().value = text;
  field().dispatchEvent(new Event('input', { bubbles: true }));
  flushSync();
};
const key = (pressed: string, more: KeyboardEventInit = {}, target: Element = document.body) => {
  const event = new KeyboardEvent('keydown', { key: pressed, bubbles: true, cancelable: true, ...more });
  target.dispatchEvent(event);
  flushSync();
  return event;
};
const rows = () => page.queryAllByRole('listitem').map((row) => row.querySelector('.label')?.textContent);

test('a row that has just come under the pointer opens nothing', async () => {
  const { asked, heard, press, change, wait } = list(['a', 'b']);
  wait(60_000);
  await change(['b', 'a']);
  press('b', 1);
  expect(asked).toEqual([]);
  expect(heard).toHaveLength(1);
  wait(settledAfter);
  press('b', 1);
  expect(asked).toEqual(['open-recent b']);
});

test('a row that stayed where it was opens at once', async () => {
  const { asked, press, change } = list(['a', 'b']);
  await change(['a', 'b', 'c']);
  press('a', 1);
  press('c', 1);
  expect(asked).toEqual(['open-recent a', 'open-recent c']);
});

test('the keyboard stays with its row and opens at once', async () => {
  const { asked, press, change } = list(['a', 'b']);
  await change(['b', 'a']);
  press('a', 0);
  expect(asked).toEqual(['open-recent a']);
});

test('a new first row moves all others', () => {
  expect(moved(['a', 'b'], ['n', 'a', 'b'])).toEqual(['n', 'a']);
  expect(moved(['a', 'b'], ['b'])).toEqual(['b']);
  expect(moved([], ['a'])).toEqual([]);
});

test('a few are not searched, many are', async () => {
  const { change } = list(['a', 'b', 'c', 'd', 'e']);
  expect(page.queryByRole('searchbox')).toBeNull();
  await change(['a', 'b', 'c', 'd', 'e', 'f']);
  expect(field()).toBeTruthy();
});

test.each([
  ['p. 7', ['P. 7']],
  ['exported', ['P. 0', 'P. 3', 'P. 6']],
  ['NOTE 6', ['P. 6']],
  ['p5', ['P. 5']],
  ['P.5', ['P. 5']],
  ['2:29', ['P. 1']],
  ['yesterday', []],
  ['  ', ['P. 0', 'P. 1', 'P. 2', 'P. 3', 'P. 4', 'P. 5', 'P. 6', 'P. 7']],
])('typing %j finds by label, status and time', (typed, want) => {
  list(read(8));
  type(typed);
  expect(rows()).toEqual(want);
});

test('case and accents do not matter, and what was typed is text and no pattern', () => {
  const named = (label: string): Recent => ({ ...entry(label), label });
  list([...['Élodie Müller', 'elodie muller', 'Straße', '(.*)', 'x', 'y'].map(named)]);
  type('ELODIE mu');
  expect(rows()).toEqual(['Élodie Müller', 'elodie muller']);
  type('strasse');
  expect(rows()).toEqual(['Straße']);
  type('.*');
  expect(rows()).toEqual(['(.*)']);
});

test('the number found is seen and heard, and nothing found says so and leads back', () => {
  const { heard } = list(read(200));
  type('p. 199');
  expect(heard.at(-1)).toBe('Found: 1 of 200');
  expect(page.getByText('Found: 1 of 200')).toBeTruthy();
  type('nobody');
  expect(rows()).toEqual([]);
  expect(page.getByText('No encounter in the list matches.')).toBeTruthy();
  page.getByRole('button', { name: 'Show all' }).click();
  flushSync();
  expect(document.activeElement).toBe(field());
  expect(rows().length).toBeGreaterThan(20);
});

/** Waits until so many rows are on the page, to be seen or not. */
const builtAll = (n: number) => waitFor(() => expect(document.querySelectorAll('li')).toHaveLength(n));

test('two hundred are built after the first picture, and filtered by hiding, never by building anew', async () => {
  list(read(200));
  expect(document.querySelectorAll('li').length).toBeLessThan(60);
  await builtAll(200);
  const before = Array.from(document.querySelectorAll('li'));
  type('exported');
  expect(rows().slice(0, 3)).toEqual(['P. 0', 'P. 3', 'P. 6']);
  type('');
  expect(rows().slice(0, 3)).toEqual(['P. 0', 'P. 1', 'P. 2']);
  expect(Array.from(document.querySelectorAll('li')).every((li, i) => li === before[i])).toBe(true);
});

test('of many, those to come are drawn when the end of the list comes into sight', async () => {
  list(read(200));
  await builtAll(200);
  const first = rows();
  expect(first.length).toBeGreaterThan(20);
  expect(first.length).toBeLessThan(60);
  for (let i = 0; i < 20; i++) scrollToTheEnd();
  expect(rows()).toHaveLength(200);
  type('exported');
  expect(rows().length).toBeLessThan(60);
  for (let i = 0; i < 20; i++) scrollToTheEnd();
  expect(rows()).toHaveLength(67);
});

test('of many, those to come are drawn before the keyboard is at the last', async () => {
  list(read(200));
  await builtAll(200);
  for (let i = 0; i < 200; i++) {
    const row = document.querySelectorAll<HTMLElement>('li:not([hidden])')[i];
    row?.querySelector('button')?.focus();
    flushSync();
    expect(document.activeElement?.closest('li')).toBe(row);
  }
  expect(rows()).toHaveLength(200);
});

test('typing anywhere goes to the search, and Escape clears it', () => {
  list(read(8));
  expect(key('P').defaultPrevented).toBe(true);
  expect(document.activeElement).toBe(field());
  expect(field().value).toBe('P');
  type('p. 3');
  expect(rows()).toEqual(['P. 3']);
  expect(key('Escape', {}, field()).defaultPrevented).toBe(true);
  expect(field().value).toBe('');
  expect(rows()).toHaveLength(8);
  expect(key('Escape', {}, field()).defaultPrevented).toBe(false);
});

test.each<[string, KeyboardEventInit]>([
  ['Enter', {}],
  [' ', {}],
  ['Tab', {}],
  ['F5', {}],
  ['Dead', {}],
  ['c', { ctrlKey: true }],
  ['c', { altKey: true }],
  ['c', { metaKey: true }],
])('%j %j is no search', (pressed, more) => {
  list(read(8));
  key(pressed, more);
  expect(field().value).toBe('');
});

test('what was typed does not outlive the sign-in', async () => {
  const { rerender } = list(read(8));
  type('p. 3');
  await rerender({ recents: [], signedIn: false });
  await rerender({ recents: read(8), signedIn: true });
  expect(field().value).toBe('');
  expect(rows()).toHaveLength(8);
});

test('one row is removed, and a second press at the same place removes no other', async () => {
  const { asked, heard, click, change, wait } = list(['a', 'b', 'c']);
  wait(60_000);
  click(/^Remove from the list: A,/, 1);
  await waitFor(() => expect(heard.at(-1)).toMatch(/undo/));
  await change(['b', 'c']);
  click(/^Remove from the list: B,/, 2);
  expect(asked).toEqual(['remove-recent a']);
  wait(settledAfter);
  click(/^Remove from the list: B,/, 1);
  expect(asked).toEqual(['remove-recent a', 'remove-recent b']);
});

test('the focus goes to the neighbour of a removed row, and to the heading after the last', async () => {
  const { change } = list(['a', 'b', 'c']);
  const remove = (id: string) => page.getByRole('button', { name: new RegExp(`^Remove from the list: ${id},`) });
  remove('B').focus();
  await change(['a', 'c']);
  await tick();
  expect(document.activeElement).toBe(remove('C'));
  await change(['a']);
  await tick();
  expect(document.activeElement).toBe(remove('A'));
  await change([]);
  await tick();
  expect(document.activeElement?.textContent).toBe('Recent encounters');
});

test('all are removed, and the second press of a double click does not bring them back', async () => {
  const { asked, click, rerender, wait } = list(['a', 'b']);
  wait(60_000);
  page.getByRole('button', { name: 'Clear the list' }).focus();
  click('Clear the list', 1);
  expect(asked).toEqual(['clear-recents']);
  await rerender({ recents: [], undo: { ...undo, removed: 2 } });
  await tick();
  expect(page.getByText('Removed: 2')).toBeTruthy();
  expect(document.activeElement).toBe(page.getByRole('button', { name: 'Undo' }));
  click('Undo', 2);
  expect(asked).toEqual(['clear-recents']);
  wait(settledAfter);
  click('Undo', 1);
  expect(asked).toEqual(['clear-recents', 'undo-remove']);
  await rerender({ recents: letters(['a', 'b']), undo: null });
  click('Clear the list', 2);
  expect(asked).toHaveLength(2);
});

test('nothing can be undone once its time has passed', async () => {
  const { rerender } = list(['a'], { undo });
  expect(page.getByRole('button', { name: 'Undo' })).toBeTruthy();
  await rerender({ now: undo.until });
  expect(page.queryByRole('button', { name: 'Undo' })).toBeNull();
});

test('a list that was pushed elsewhere by what stands above opens nothing at once', async () => {
  const { asked, press, rerender, wait } = list(['a', 'b']);
  wait(60_000);
  await rerender({ above: 'a message' });
  press('a', 1);
  press('b', 1);
  expect(asked).toEqual([]);
  wait(settledAfter);
  press('a', 1);
  expect(asked).toEqual(['open-recent a']);
});
