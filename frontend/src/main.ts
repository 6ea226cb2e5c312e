import { mount } from 'svelte';
import App from './App.svelte';
import { connect } from './bridge/wails';
import { Shown } from './state/snapshot.svelte';
import './ui/style.css';
import { zoomWithKeys } from './ui/zoom';

const shown = new Shown();
zoomWithKeys(document);
mount(App, { target: document.body, props: { shown, intents: connect(shown) } });
