import { expect, test } from 'vitest';
import type { main, view } from '../../wailsjs/go/models';
import { wire, wireLaunch } from '../testing/fakes';
import { inert } from './inert';
import { readAbout, readProblem, readSnapshot } from './read';

test('nothing at all is read as signed out, with nothing to show', () => {
  for (const odd of [null, undefined, 'text', 7, [], {}, { sign_in: null, policy: null, recents: null, launch: null }]) {
    const s = readSnapshot(odd as unknown as view.Snapshot);
    expect(s.signIn.state).toBe('signed_out');
    expect(s.launch).toBeNull();
    expect(s.recents).toEqual([]);
    expect(s.policy.problems).toEqual([]);
  }
  expect(readProblem(null)).toBeNull();
  expect(readAbout(null as unknown as main.About).version).toBe('');
});

test('a stage that this page does not know counts as one under way', () => {
  expect(readSnapshot(wire({ launch: wireLaunch('teleporting', { ms: { received: 0, teleporting: 3 } }) })).launch).toMatchObject({
    stage: 'received',
    ms: { received: 0 },
  });
});

test('times that are none are left out', () => {
  const launch = wireLaunch('creating', { ms: { received: -1, creating: Number.NaN }, started_at: 'soon' });
  expect(readSnapshot(wire({ launch })).launch).toMatchObject({ ms: {}, startedAt: new Date(0) });
});

test('a recent entry without id or time cannot be reopened and is left out', () => {
  const good = { id: 'r', label: '', opened_at: '2026-01-01T00:00:00Z', status: 'filed' };
  const recents = [good, { ...good, id: '' }, { ...good, opened_at: 'soon' }, null] as unknown as view.Recent[];
  expect(readSnapshot(wire({ recents })).recents).toEqual([
    { id: 'r', label: '', openedAt: new Date('2026-01-01T00:00:00Z'), status: 'opened' },
  ]);
});

test('an id is handed back as it came, never shortened', () => {
  const id = 'x'.repeat(100);
  const recents = [{ id, label: '', opened_at: '2026-01-01T00:00:00Z', status: 'opened' }];
  expect(readSnapshot(wire({ recents })).recents[0]?.id).toBe(id);
});

test.each([
  ['plain', 'J. D.', 'J. D.'],
  ['line breaks', 'a\r\nb\u2028c\td', 'a b c d'],
  ['direction', '\u202eabc\u2066\u200f', 'abc'],
  ['nothing to see', '\u200b\ufeff\u0000', ''],
  ['nothing to see of other kinds', 'a\u115f\u3164b\ufe0f\u{e0100}c\u0378d\ufffd', 'abcd'],
  ['a broken pair', 'a\ud83db', 'ab'],
  ['ten characters', '1234567890', '1234567890'],
  ['eleven characters', '12345678901', '123456789…'],
  ['emoji count as one', '😀'.repeat(11), `${'😀'.repeat(9)}…`],
  ['far too long', 'ab'.repeat(100_000), 'ababababa…'],
  ['far too long and invisible', '\u200b'.repeat(1_000) + 'x', '…'],
  ['no text', 7, ''],
])('inert text: %s', (_, text, want) => {
  expect(inert(text, 10)).toBe(want);
});
