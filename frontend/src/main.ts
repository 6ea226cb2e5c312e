import { mount } from 'svelte';
import App from './App.svelte';
import { connect } from './bridge/wails';
import { Shown } from './state/snapshot.svelte';
import './ui/style.css';
import { zoomWithKeys } from './ui/zoom';
import { Spoken } from './words/spoken.svelte';

const shown = new Shown();
const spoken = new Spoken();
zoomWithKeys(document);
const intents = connect(shown);
// What the system speaks is nearly always what the agent will say, so the page
// does not begin in English and then change.
void spoken.speak(navigator.language).then(() => {
  mount(App, { target: document.body, props: { shown, intents, spoken } });
});
