import { render, screen as page } from '@testing-library/svelte';
import { expect, test } from 'vitest';
import type { Recent } from '../state/types';
import { now } from '../testing/fakes';
import { wordsFor } from '../words/words';
import { moved, settledAfter } from './moved';
import Recents from './Recents.svelte';

const entry = (id: string): Recent => ({ id, label: id.toUpperCase(), openedAt: now, status: 'opened' });

function list(ids: string[]) {
  let time = 0;
  const opened: string[] = [];
  const heard: string[] = [];
  const props = {
    recents: ids.map(entry),
    signedIn: true,
    now,
    words: wordsFor('en'),
    busy: false,
    open: (id: string) => opened.push(id),
    hear: (text: string) => heard.push(text),
    clock: () => time,
  };
  const { rerender } = render(Recents, props);
  const press = (id: string, detail: number) =>
    page.getByRole('button', { name: new RegExp(`^Reopen ${id.toUpperCase()}`) }).dispatchEvent(new MouseEvent('click', { detail, bubbles: true }));
  return { opened, heard, press, change: (next: string[]) => rerender({ recents: next.map(entry) }), wait: (ms: number) => (time += ms) };
}

test('a row that has just come under the pointer opens nothing', async () => {
  const { opened, heard, press, change, wait } = list(['a', 'b']);
  wait(60_000);
  await change(['b', 'a']);
  press('b', 1);
  expect(opened).toEqual([]);
  expect(heard).toHaveLength(1);
  wait(settledAfter);
  press('b', 1);
  expect(opened).toEqual(['b']);
});

test('a row that stayed where it was opens at once', async () => {
  const { opened, press, change } = list(['a', 'b']);
  await change(['a', 'b', 'c']);
  press('a', 1);
  press('c', 1);
  expect(opened).toEqual(['a', 'c']);
});

test('the keyboard stays with its row and opens at once', async () => {
  const { opened, press, change } = list(['a', 'b']);
  await change(['b', 'a']);
  press('a', 0);
  expect(opened).toEqual(['a']);
});

test('a new first row moves all others', () => {
  expect(moved(['a', 'b'], ['n', 'a', 'b'])).toEqual(['n', 'a']);
  expect(moved(['a', 'b'], ['b'])).toEqual(['b']);
  expect(moved([], ['a'])).toEqual([]);
});
