import * as App from '../../wailsjs/go/main/App';
import type { view } from '../../wailsjs/go/models';
import { ClipboardSetText, EventsEmit, EventsOn, Quit, WindowSetBackgroundColour } from '../../wailsjs/runtime/runtime';
import type { Shown } from '../state/snapshot.svelte';
import type { Problem } from '../state/types';
import type { Intents } from './intents';
import { readAbout, readProblem, readSnapshot } from './read';

// The other end of the events is app.go.

/**
 * Writes into shown whatever the agent publishes, from now on, and returns the way
 * back. Later it calls answered, when the first snapshot is there or will not come
 * soon.
 */
export function connect(shown: Shown, answered: () => void): Intents {
  const show = (wire: view.Snapshot) => {
    const first = shown.snapshot === null;
    shown.seenAt = new Date();
    shown.snapshot = readSnapshot(wire);
    shown.agent = 'reachable';
    if (!first) return;
    answered();
    afterPainting(() => EventsEmit('painted'));
  };
  EventsOn('snapshot', show);
  EventsOn('agent', (state: unknown) => {
    shown.agent = state === 'reachable' ? 'reachable' : 'agent_unreachable';
  });

  void App.About().then((about) => {
    shown.about = readAbout(about);
  });
  App.Snapshot().then(
    (first) => {
      // An event that came meanwhile is newer than this answer.
      if (shown.snapshot === null) show(first);
    },
    () => {
      // The events tell when the agent is there.
      answered();
    },
  );

  const dark = window.matchMedia('(prefers-color-scheme: dark)');
  const paint = () => {
    // The page's own background, so that resizing does not flash.
    if (dark.matches) WindowSetBackgroundColour(0x0f, 0x1b, 0x20, 255);
    else WindowSetBackgroundColour(0xf3, 0xf6, 0xf7, 255);
  };
  dark.addEventListener('change', paint);
  paint();

  return {
    signIn: () => ask(App.SignIn()),
    showSignIn: () => ask(App.ShowSignIn()),
    signOut: () => ask(App.SignOut()),
    openRecent: (id) => ask(App.OpenRecent(id)),
    removeRecent: (id) => ask(App.RemoveRecent(id)),
    clearRecents: () => ask(App.ClearRecents()),
    undoRemove: () => ask(App.UndoRemove()),
    cancel: (launch) => ask(App.Cancel(launch)),
    retry: (launch) => ask(App.Retry(launch)),
    freshLink: (launch) => ask(App.FreshLink(launch)),
    choose: (key, value) => ask(App.Choose(key, value)),
    check: () => ask(App.Check()),
    openHelpDesk: () => ask(App.OpenHelpDesk()),
    quit: async () => {
      const refused = await ask(App.Quit());
      if (refused === null) Quit();
      return refused;
    },
    copy: (text) => ClipboardSetText(text).catch(() => false),
  };
}

/** Calls back when what is on the page by the next frame has been painted. */
function afterPainting(done: () => void) {
  requestAnimationFrame(() => requestAnimationFrame(done));
}

async function ask(call: Promise<void>): Promise<Problem | null> {
  try {
    await call;
    return null;
  } catch (refusal) {
    const told = readProblem(refusal as view.Problem);
    return told ?? { code: 'internal', sentence: '', nextStep: '', reference: '' };
  }
}
