import { expect, test } from 'vitest';
import { readSnapshot } from '../bridge/read';
import { now, signedIn, signedOut, signingIn, unreachable, wire, wireLaunch } from '../testing/fakes';
import { freshFor, places, remedies, screen, start as nothing, trouble, type Looking, type Place } from './screen';
import { steps } from './steps';
import type { Stage } from './types';

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

test.each<Place>(['settings', 'diagnostics', 'about'])('%s gives way to a launch and to a sign-in, not to a problem', (place) => {
  const there = { ...nothing, place };
  expect(at(wire(), there)).toBe(place);
  expect(at(failed, there)).toBe(place);
  expect(at(wire({ first_run: true, sign_in: signedOut }), there)).toBe(place);
  expect(at(wire({ launch: wireLaunch('creating') }), there)).toBe('launching');
  expect(at(wire({ sign_in: signingIn }), there)).toBe('sign_in');
});

test('what policy hides is no place, and whoever stands there is led away', () => {
  expect(places(readSnapshot(wire()))).toEqual(['home', 'settings', 'diagnostics', 'about']);
  const hidden = wire({ hidden: ['settings', 'diagnostics', 'teleport'] });
  expect(places(readSnapshot(hidden))).toEqual(['home', 'about']);
  expect(at(hidden, { ...nothing, place: 'settings' })).toBe('home');
});

test('the first run begins with its page until it is put aside or somebody signs in', () => {
  const first = (sign_in: typeof signedIn) => wire({ first_run: true, sign_in });
  expect(at(first(signedOut))).toBe('welcome');
  expect(at(first(signedOut), { ...nothing, welcomed: true })).toBe('home');
  expect(at(first(signingIn))).toBe('sign_in');
  expect(at(first(signedIn))).toBe('home');
  expect(at(wire({ sign_in: signedOut }))).toBe('home');
  expect(at(wire({ first_run: true, sign_in: signedOut, launch: wireLaunch('failed', { problem: unreachable }) }))).toBe('problem');
});

test.each([
  ['an unreachable server', 'org_unreachable', true, signedIn, ['retry']],
  ['a refused sign-in', 'unauthorized', true, signedIn, ['sign_in', 'retry']],
  ['another clinician', 'provider_mismatch', false, signedIn, ['sign_in']],
  ['nobody signed in, another try possible', 'org_unreachable', true, signedOut, ['retry']],
  ['nobody signed in, no other try', 'link_expired', false, signedOut, ['sign_in']],
  ['a spent link', 'handle_spent', false, signedIn, []],
])('%s is mended by what most likely helps first', (_, code, retryable, sign_in, want) => {
  const s = readSnapshot(wire({ sign_in, launch: wireLaunch('failed', { retryable, problem: { ...unreachable, code } }) }));
  expect(remedies(trouble(s, now, nothing)!, s, now)).toEqual(want);
});

test('a fresh link helps until its time has passed, and a hidden sign-in never', () => {
  const problem = { ...unreachable, code: 'unauthorized' };
  const launch = wireLaunch('failed', { problem, fresh_until: new Date(now.getTime() + 1).toISOString() });
  const s = readSnapshot(wire({ launch, hidden: ['sign-in'] }));
  expect(remedies(trouble(s, now, nothing)!, s, now)).toEqual(['fresh_link']);
  expect(remedies(trouble(s, now, nothing)!, s, new Date(now.getTime() + 1))).toEqual([]);
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
