import { mount } from 'svelte';
import App from './App.svelte';
import { connect } from './bridge/wails';
import { Shown } from './state/snapshot.svelte';
import './ui/style.css';
import { zoomWithKeys } from './ui/zoom';
import { Spoken } from './words/spoken.svelte';

if (!navigator.userAgent.includes('Linux')) document.documentElement.dataset['fonts'] = 'named';

const shown = new Shown();
const spoken = new Spoken();
zoomWithKeys(document);

// The snapshot comes a few milliseconds after it was asked for, sooner than a page
// that only says so could be drawn. Where it does not come, that page is shown.
const longestBlank = 150;
let begun = false;
function begin() {
  if (begun) return;
  begun = true;
  // The page never begins in English and then changes: what the system speaks is
  // nearly always what the agent will say, where it has not said it yet.
  void spoken.speak(shown.snapshot?.language || navigator.language).then(() => {
    mount(App, { target: document.body, props: { shown, intents, spoken } });
  });
}
const intents = connect(shown, begin);
setTimeout(begin, longestBlank);
