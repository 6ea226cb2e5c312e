import { expect, test } from 'vitest';
import { readSnapshot } from '../bridge/read';
import { now, signedOut, unreachable, wire, wireLaunch } from '../testing/fakes';
import { freshFor, screen, trouble, type Looking } from './screen';
import { steps } from './steps';
import type { Stage } from './types';

const nothing: Looking = { about: false, putAside: [], again: '' };
const at = (sent = wire(), looking: Looking = nothing, seenAt = now) => screen('reachable', readSnapshot(sent), seenAt, looking);
const failed = wire({ launch: wireLaunch('failed', { problem: unreachable }) });
const late = new Date(now.getTime() + freshFor);

test.each<[Stage, string]>([
  ['received', 'launching'],
  ['signing_in', 'sign_in'],
  ['creating', 'launching'],
  ['opening', 'launching'],
  ['opened', 'home'],
  ['cancelled', 'home'],
])('a launch that is %s shows %s', (stage, want) => {
  expect(at(wire({ launch: wireLaunch(stage) }))).toBe(want);
});

test('without an agent nothing else is shown, whatever was seen last', () => {
  expect(screen('agent_unreachable', readSnapshot(failed), now, nothing)).toBe('agent_gone');
  expect(screen('agent_unreachable', null, now, nothing)).toBe('agent_gone');
  expect(screen('connecting', null, now, nothing)).toBe('connecting');
  expect(screen('reachable', null, now, nothing)).toBe('connecting');
});

test('a failed launch takes the window until it is put aside or old', () => {
  expect(at(failed)).toBe('problem');
  expect(at(failed, { ...nothing, putAside: [unreachable.reference] })).toBe('home');
  expect(at(failed, nothing, late)).toBe('home');
});

test('a problem that is asked for again is shown however old', () => {
  const again = { ...nothing, putAside: [unreachable.reference], again: unreachable.reference };
  expect(at(failed, again, late)).toBe('problem');
});

test('the next failure is shown although the one before was put aside', () => {
  const next = wire({ launch: wireLaunch('failed', { problem: { ...unreachable, reference: 'NEXTNEXT' } }) });
  expect(at(next, { ...nothing, putAside: [unreachable.reference] })).toBe('problem');
});

test('a failed sign-in is shown while signed out, a cancelled one is not', () => {
  const told = (code: string) => wire({ sign_in: { ...signedOut, problem: { ...unreachable, code } } });
  expect(at(told('signin_failed'))).toBe('problem');
  expect(at(told('signin_cancelled'))).toBe('home');
  expect(trouble(readSnapshot(told('signin_failed')), now, nothing)?.from).toBe('sign_in');
});

test('about gives way to a launch and to a sign-in', () => {
  const about = { ...nothing, about: true };
  expect(at(wire(), about)).toBe('about');
  expect(at(failed, about)).toBe('about');
  expect(at(wire({ launch: wireLaunch('creating') }), about)).toBe('launching');
  expect(at(wire({ sign_in: { state: 'signing_in', memory_only: false } }), about)).toBe('sign_in');
});

test('signing in is a step only where it was needed', () => {
  const stagesOf = (stage: string, ms: Record<string, number>) =>
    steps(readSnapshot(wire({ launch: wireLaunch(stage, { ms }) })).launch!).map((s) => `${s.stage} ${s.is} ${s.took}`);
  expect(stagesOf('opening', { received: 0, creating: 5, opening: 105 })).toEqual([
    'received done 5',
    'creating done 100',
    'opening now null',
    'opened waiting null',
  ]);
  expect(stagesOf('creating', { received: 0, signing_in: 5, creating: 4005 })).toEqual([
    'received done 5',
    'signing_in done 4000',
    'creating now null',
    'opening waiting null',
    'opened waiting null',
  ]);
  expect(stagesOf('opened', { received: 0, creating: 5, opening: 105, opened: 120 }).at(-1)).toBe('opened done null');
});
