import { expect, test } from 'vitest';

const sources = import.meta.glob<string>(['./**/*.svelte', './**/*.ts', './**/*.css'], { query: '?raw', import: 'default', eager: true });
const page = import.meta.glob<string>('../index.html', { query: '?raw', import: 'default', eager: true })['../index.html'] ?? '';
const own = Object.entries(sources).filter(([path]) => !path.endsWith('.test.ts'));

test('only the bridge knows Wails', () => {
  const others = own.filter(([path, text]) => !path.startsWith('./bridge/') && !path.startsWith('./testing/') && text.includes('wailsjs'));
  expect(others.map(([path]) => path)).toEqual([]);
});

test('nothing writes markup, runs text as code or reaches for the network', () => {
  const forbidden = /\{@html|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\bfetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|localStorage|sessionStorage|https?:\/\//;
  const guilty = own.filter(([path, text]) => !path.startsWith('./testing/') && forbidden.test(text));
  expect(guilty.map(([path]) => path)).toEqual([]);
});

test('the page lets nothing in but its own scripts, styles and pictures', () => {
  const rules = /http-equiv="Content-Security-Policy"\s+content="([^"]+)"/.exec(page)?.[1];
  expect(rules?.split('; ')).toEqual([
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
  ]);
});
