import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { view } from '../../wailsjs/go/models';
import { Shown } from '../state/snapshot.svelte';
import { wire } from '../testing/fakes';
import { connect } from './wails';

// What Wails puts into the page before its own script runs.
let emitted: string[];
let events: Map<string, (data: unknown) => void>;

function wails(first: Promise<view.Snapshot>) {
  emitted = [];
  events = new Map();
  vi.stubGlobal('go', { main: { App: { About: () => Promise.resolve({ version: '1', language: '' }), Snapshot: () => first } } });
  vi.stubGlobal('runtime', {
    EventsOnMultiple: (name: string, heard: (data: unknown) => void) => events.set(name, heard),
    EventsEmit: (name: string) => emitted.push(name),
    WindowSetBackgroundColour: () => {},
  });
}

beforeEach(() => vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test('the window is told once that the first snapshot is painted, a frame after it is on the page', async () => {
  wails(Promise.resolve(wire()));
  const shown = new Shown();
  const answered = vi.fn(() => expect(shown.snapshot).not.toBeNull());
  connect(shown, answered);
  expect(answered).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(0);
  expect(answered).toHaveBeenCalledOnce();
  expect(emitted).toEqual([]);
  vi.advanceTimersToNextFrame();
  expect(emitted).toEqual([]);
  vi.advanceTimersToNextFrame();
  expect(emitted).toEqual(['painted']);
  events.get('snapshot')?.(wire({ revision: 2 }));
  expect(answered).toHaveBeenCalledOnce();
  for (let i = 0; i < 5; i++) vi.advanceTimersToNextFrame();
  expect(emitted).toEqual(['painted']);
});

test('without a snapshot the page begins and nothing is told', async () => {
  wails(Promise.reject(new Error('no agent')));
  const answered = vi.fn();
  connect(new Shown(), answered);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(answered).toHaveBeenCalledOnce();
  events.get('agent')?.('agent_unreachable');
  await vi.advanceTimersByTimeAsync(1_000);
  expect(emitted).toEqual([]);
});
