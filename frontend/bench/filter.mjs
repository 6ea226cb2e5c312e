// Times how long 200 recents take to be filtered, from the key to the frame that
// shows the result, in the built front end in Chromium. Prints
// {"filter_ms":{"median":…,"p95":…},…}. usage: node bench/filter.mjs, after npm run build
import { chromium } from 'playwright-core';
import { createServer } from 'vite';
import { fileURLToPath } from 'node:url';
import { bridge } from '../pages/bridge.mjs';
import { serve } from '../pages/serve.mjs';

const rounds = 15;
const typed = ['p', 'p. 1', 'p. 19', 'note', 'note 3', 'xyz', 'opened', ''];

// How many rows some of them leave: what is timed must have been done.
const found = { note: 67, xyz: 0, '': 200 };

const root = fileURLToPath(new URL('..', import.meta.url));
const vite = await createServer({ root, server: { middlewareMode: true, hmr: false, ws: false, watch: null }, appType: 'custom', logLevel: 'error', optimizeDeps: { noDiscovery: true } });
const { wire, wireRecents } = await vite.ssrLoadModule('/src/testing/fakes.ts');
await vite.close();

const server = await serve();
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });
const page = await browser.newPage({ viewport: { width: 440, height: 660 } });
await page.addInitScript(bridge);
const script = { snapshot: wire({ recents: wireRecents(200) }), about: { version: '1', language: 'en' }, gone: false, refusal: null };
await page.goto(`${server.address}#${encodeURIComponent(JSON.stringify(script))}`);
await page.waitForSelector('input[type=search]');

// Work is all that the page does for one key: its script, then styles and layout,
// which reading a measure forces. Painting follows outside the page's thread.
const times = await page.evaluate(
  async ({ rounds, typed, found }) => {
    const field = document.querySelector('input[type=search]');
    const times = [];
    for (let round = 0; round < rounds; round++) {
      for (const text of typed) {
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
        field.value = text;
        const began = performance.now();
        field.dispatchEvent(new Event('input', { bubbles: true }));
        await Promise.resolve();
        await Promise.resolve();
        void document.documentElement.scrollHeight;
        // The first round warms up, as opening the window does.
        if (round > 0) times.push(performance.now() - began);
        const shown = document.querySelectorAll('li[data-id]:not([hidden])').length;
        if (text in found && shown !== found[text]) throw new Error(`“${text}” shows ${shown} rows: something else was timed`);
      }
    }
    return times;
  },
  { rounds, typed, found },
);
await browser.close();
server.close();

times.sort((a, b) => a - b);
const at = (part) => Number(times[Math.min(times.length - 1, Math.floor(times.length * part))].toFixed(2));
console.log(JSON.stringify({ filter_ms: { median: at(0.5), p95: at(0.95) }, max_ms: at(1), rows: 200, samples: times.length }));
