import { expect, test } from 'vitest';
import { zoomAfter, zoomWithKeys } from './zoom';

test('zoom goes from 100 to 400 per cent and back', () => {
  const seen = [100];
  for (let i = 0; i < 8; i++) seen.push(zoomAfter('+', seen.at(-1)!)!);
  expect(seen).toEqual([100, 125, 150, 175, 200, 250, 300, 400, 400]);
  expect(zoomAfter('-', 400)).toBe(300);
  expect(zoomAfter('-', 100)).toBe(100);
  expect(zoomAfter('0', 250)).toBe(100);
  expect(zoomAfter('a', 250)).toBeNull();
});

test('only with Ctrl held', () => {
  zoomWithKeys(document);
  document.dispatchEvent(new KeyboardEvent('keydown', { key: '+' }));
  expect(document.documentElement.style.fontSize).toBe('');
  document.dispatchEvent(new KeyboardEvent('keydown', { key: '+', ctrlKey: true }));
  expect(document.documentElement.style.fontSize).toBe('125%');
});
