// The scripted bridge: what Wails puts into the page before its first script
// runs, as far as the page asks for it.

/** Runs inside the page. The script that it follows stands in the address: { snapshot, about, gone, refusal }. */
export function bridge() {
  const script = JSON.parse(decodeURIComponent(location.hash.slice(1)));
  const listeners = {};
  const asked = [];
  const intent = (name) => (...values) => {
    asked.push([name, ...values].join(' '));
    return script.refusal === null ? Promise.resolve() : Promise.reject(script.refusal);
  };
  const names = ['SignIn', 'ShowSignIn', 'SignOut', 'OpenRecent', 'RemoveRecent', 'ClearRecents', 'UndoRemove', 'Cancel', 'Retry', 'FreshLink', 'Choose', 'Check', 'OpenHelpDesk', 'Quit'];
  const App = Object.fromEntries(names.map((name) => [name, intent(name)]));
  App.About = () => Promise.resolve(script.about);
  App.Snapshot = () => (script.snapshot === null ? Promise.reject({ code: 'agent_unreachable' }) : Promise.resolve(script.snapshot));
  window.go = { main: { App } };
  window.runtime = {
    EventsOnMultiple: (event, heard) => {
      (listeners[event] ??= []).push(heard);
      if (event === 'agent' && script.gone) setTimeout(() => heard('agent_unreachable'), 0);
      return () => {};
    },
    EventsEmit: () => {},
    WindowSetBackgroundColour: () => {},
    ClipboardSetText: (text) => {
      asked.push(`copy ${text}`);
      return Promise.resolve(true);
    },
    Quit: () => asked.push('end'),
  };
  window.script = { asked, send: (event, data) => (listeners[event] ?? []).forEach((heard) => heard(data)) };
}
