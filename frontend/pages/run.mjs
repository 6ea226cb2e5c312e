// Visits every view in every state in the built front end: axe, keyboard, zoom,
// narrow and wide, every language. usage: node pages/run.mjs [state …]
//
// Writes pictures to build/out/pages and ends with "N passed, N failed".
import { readFile, mkdir, readdir, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { chromium } from 'playwright-core';
import { createServer } from 'vite';
import { bridge } from './bridge.mjs';
import { dist, serve } from './serve.mjs';
import { states } from './states.mjs';

const zone = 'Europe/London';
process.env.TZ = zone;

const root = fileURLToPath(new URL('..', import.meta.url));
const out = join(root, '../build/out/pages');
const axeSource = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const mostScript = 60 * 1024;

const languages = (await readdir(join(root, 'src/words'))).filter((f) => f.endsWith('.json')).map((f) => f.slice(0, -5)).sort();
const locales = { en: 'en-GB', fr: 'fr-FR', es: 'es-ES', de: 'de-DE' };

// The window as it opens, its smallest and a large one; zoomed as far as it goes.
const opened = { width: 440, height: 660 };
const smallest = { width: 360, height: 480 };
const large = { width: 1280, height: 800 };
const sizes = [
  ['360', smallest, 100],
  ['1280', large, 100],
  ['200', opened, 200],
  ['360-200', smallest, 200],
  ['400', opened, 400],
  ['360-400', smallest, 400],
];

const pictured = ['360', '200', '400'];

let passed = 0;
const failures = [];
function check(name, wrong) {
  if (wrong.length === 0) passed++;
  else failures.push(`✗ ${name}\n${wrong.slice(0, 5).map((w) => `      ${w}`).join('\n')}`);
}

const vite = await createServer({ root, server: { middlewareMode: true, hmr: false, ws: false, watch: null }, appType: 'custom', logLevel: 'error', optimizeDeps: { noDiscovery: true } });
const fakes = await vite.ssrLoadModule('/src/testing/fakes.ts');
const wanted = process.argv.slice(2);
const all = Object.entries(states(fakes)).filter(([name]) => wanted.length === 0 || wanted.includes(name));
await vite.close();

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
const server = await serve();
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });

const queue = languages.flatMap((language) => all.map(([name, state]) => ({ language, name, state })));
const scripts = new Set();

async function worker() {
  const wrong = [];
  const page = await pageFor(wrong);
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const title = `${next.name} (${next.language})`;
    try {
      await visit(page, wrong, title, next);
    } catch (error) {
      failures.push(`✗ ${title}\n      ${error.message.split('\n')[0]}`);
    }
  }
}

/** One page that goes from state to state. */
async function pageFor(wrong) {
  const context = await browser.newContext({ viewport: opened, timezoneId: zone, reducedMotion: 'reduce' });
  const page = await context.newPage();
  page.setDefaultTimeout(5_000);
  await page.clock.setFixedTime(fakes.now);
  await page.addInitScript(bridge);
  page.on('pageerror', (e) => wrong.push(e.message));
  page.on('console', (m) => m.type() === 'error' && wrong.push(m.text()));
  page.on('request', (r) => {
    if (r.resourceType() === 'script') scripts.add(new URL(r.url()).pathname);
    if (!r.url().startsWith(server.address)) wrong.push(`asked for ${r.url()}`);
  });
  return page;
}

let visits = 0;

/** Loads the page anew in a state. */
async function open(page, { language, state }) {
  const locale = locales[language] ?? language;
  const script = {
    snapshot: state.sent === null ? null : { ...(typeof state.sent === 'function' ? state.sent(language) : state.sent), language, locale },
    about: { version: '1.2.3', language },
    gone: state.gone === true,
    refusal: state.refusal ?? null,
  };
  await page.setViewportSize(opened);
  await page.goto(`${server.address}?${++visits}#${encodeURIComponent(JSON.stringify(script))}`);
  await page.waitForFunction(
    ({ gone, known, lang }) =>
      document.documentElement.lang === lang &&
      (gone ? document.querySelectorAll('main p').length > 2 : known ? document.querySelector('main section, main button, main ol') : document.querySelector('h1')),
    { gone: state.gone === true, known: state.sent !== null, lang: language },
  );
  if (state.go) await page.evaluate((i) => document.querySelectorAll('nav button')[i].click(), ['home', 'settings', 'diagnostics', 'about'].indexOf(state.go));
  if (state.press) await page.locator(state.press).first().click();
  if (state.type) await page.keyboard.type(state.type);
  await settled(page);
}

const settled = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done()))));

async function visit(page, wrong, title, { language, name, state }) {
  wrong.length = 0;
  await open(page, { language, state });
  const picture = (kind) => page.screenshot({ path: join(out, `${name}-${kind}.png`) });
  // Each view as it mostly is; its other states differ in a part.
  const plain = !name.includes('-');
  const own = language === 'en' ? '' : `${language}-`;
  const whole = language === 'en';
  // In other languages only the words differ: names where there are any, and room.
  if (whole || plain) await page.evaluate(axeSource);
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    if (!whole && !(plain && colorScheme === 'light')) continue;
    check(`${title}, ${colorScheme}: axe`, await axe(page));
    await picture(`${own}${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: 'light' });
  if (whole) {
    if (state.tabs !== false) check(`${title}: keyboard`, await keyboard(page));
    await page.emulateMedia({ forcedColors: 'active' });
    check(`${title}: forced colours`, await edges(page));
    await picture('forced');
    await page.emulateMedia({ forcedColors: 'none', contrast: 'more' });
    if (plain) check(`${title}: more contrast, axe`, await axe(page));
    await page.emulateMedia({ contrast: 'no-preference' });
  }
  for (const [kind, viewport, zoom] of sizes.filter(([kind]) => whole || pictured.includes(kind))) {
    await page.setViewportSize(viewport);
    await page.evaluate((percent) => {
      document.activeElement?.blur();
      document.documentElement.style.fontSize = `${percent}%`;
      scrollTo(0, 0);
    }, zoom);
    check(`${title}, ${kind}: fits`, await fits(page, kind === '200'));
    if (whole ? pictured.includes(kind) || (plain && kind === '1280') : plain && kind === '200') await picture(`${own}${kind}`);
  }
  check(`${title}: nothing goes wrong in the page`, [...wrong]);
}

const axe = (page) =>
  page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ['violations'] });
    return violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html.slice(0, 160)).slice(0, 2).join(' | ')}`);
  });

/** Goes through the page with the Tab key alone. */
async function keyboard(page) {
  const wrong = [];
  await page.setViewportSize(smallest);
  const controls = await page.evaluate(() => {
    // The Tab key begins where a page begins.
    const begin = document.createElement('div');
    begin.id = 'begin';
    begin.tabIndex = -1;
    document.body.prepend(begin);
    begin.focus();
    scrollTo(0, 0);
    const found = Array.from(document.querySelectorAll('button, input, select, textarea, a[href], [tabindex="0"]')).filter((e) => e.checkVisibility());
    window.order = found;
    return found.map((e) => e.getAttribute('aria-label') ?? e.textContent.trim());
  });
  let before = null;
  for (let i = 0; i < controls.length; i++) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate((n) => {
      const e = document.activeElement;
      const box = e.getBoundingClientRect();
      const style = getComputedStyle(e);
      return {
        index: window.order.indexOf(e),
        seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
        inside: box.top >= -1 && box.bottom <= innerHeight + 1 && box.left >= -1 && box.right <= innerWidth + 1,
        top: box.top + scrollY,
        bottom: box.bottom + scrollY,
        left: box.left,
        n,
      };
    }, i);
    if (at.index !== i) wrong.push(`Tab ${i + 1} reaches “${controls[at.index] ?? 'nothing'}” instead of “${controls[i]}”`);
    if (!at.seen) wrong.push(`the focus on “${controls[i]}” cannot be seen`);
    if (!at.inside) wrong.push(`“${controls[i]}” has the focus out of sight`);
    if (before !== null && at.bottom <= before.top) wrong.push(`“${controls[i]}” comes after what stands below it`);
    if (before !== null && at.top < before.bottom && at.bottom > before.top && at.left < before.left) wrong.push(`“${controls[i]}” comes after what stands right of it`);
    if (wrong.length > 3) break;
    before = at;
  }
  await page.evaluate(() => document.getElementById('begin').remove());
  await page.setViewportSize(opened);
  return wrong;
}

/** In forced colours every button still has an edge and every icon a colour. */
const edges = (page) =>
  page.evaluate(() =>
    Array.from(document.querySelectorAll('main button'))
      .filter((b) => b.checkVisibility() && getComputedStyle(b).borderTopStyle === 'none')
      .map((b) => `“${b.textContent.trim()}” has no edge`),
  );

/** Nothing sticks out of the page or of its button, no text is cut, and where asked no word of a button is broken. */
const fits = (page, unbroken) =>
  page.evaluate((wholeWords) => {
    const wrong = [];
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth > width) wrong.push(`the page is ${document.documentElement.scrollWidth} wide in a window of ${width}`);
    const name = (e) => `“${(e.textContent.trim() || e.getAttribute('aria-label') || e.tagName).slice(0, 40)}”`;
    for (const e of document.querySelectorAll('button, input, h1, h2, p, dt, dd, li, code, time, .state')) {
      if (!e.checkVisibility() || e.closest('.only-heard') !== null) continue;
      const box = e.getBoundingClientRect();
      if (box.right > width + 0.5 || box.left < -0.5) wrong.push(`${name(e)} sticks out of the window`);
      // A label from outside may be cut, by two lines and an ellipsis.
      if (e.matches('.inert-line, .inert-line *') || e.matches('input')) continue;
      if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline') wrong.push(`${name(e)} is wider than its place`);
      if (e.scrollHeight > e.clientHeight + 1 && getComputedStyle(e).display !== 'inline' && !e.matches('p, li, h1, h2, dd, dt')) wrong.push(`${name(e)} is higher than its place`);
      if (!wholeWords || !e.matches('button')) continue;
      const walker = document.createTreeWalker(e, NodeFilter.SHOW_TEXT);
      for (let text = walker.nextNode(); text !== null; text = walker.nextNode()) {
        for (const word of text.data.matchAll(/\S+/g)) {
          const range = document.createRange();
          range.setStart(text, word.index);
          range.setEnd(text, word.index + word[0].length);
          if (new Set(Array.from(range.getClientRects(), (r) => Math.round(r.top))).size > 1) wrong.push(`the word “${word[0]}” is broken in its button`);
        }
      }
    }
    return wrong;
  }, unbroken);

async function zoomsWithKeys() {
  const page = await pageFor([]);
  await open(page, { language: 'en', state: { sent: fakes.wire() } });
  const size = () => page.evaluate(() => document.documentElement.style.fontSize);
  const wrong = [];
  for (const [keys, want] of [['Control+=', '125%'], ['Control+-', '100%'], ['Control+=', '125%'], ['Control+0', '100%']]) {
    await page.keyboard.press(keys);
    if ((await size()) !== want) wrong.push(`${keys} gives ${await size()}`);
  }
  await page.keyboard.down('Control');
  await page.mouse.move(200, 300);
  await page.mouse.wheel(0, -100);
  await page.waitForFunction(() => document.documentElement.style.fontSize === '125%').catch(() => wrong.push('the wheel does not zoom'));
  await page.keyboard.up('Control');
  check('zoom by keys and wheel', wrong);
}

/** What a page loads of script, with the words of its language, is small. */
async function staysSmall() {
  const bytes = async (path) => gzipSync(await readFile(join(dist, path)), { level: 9 }).length;
  const html = await readFile(join(dist, 'index.html'), 'utf8');
  const entry = [...scripts].filter((s) => html.includes(s));
  const later = [...scripts].filter((s) => !entry.includes(s));
  const sum = async (list) => (await Promise.all(list.map(bytes))).reduce((a, b) => a + b, 0);
  const [first, rest] = [await sum(entry), await sum(later)];
  const largest = Math.max(0, ...(await Promise.all(later.map(bytes))));
  console.log(`script, gzip: ${first} bytes at once, ${largest} more for the longest language, ${first + rest} for all languages together; allowed ${mostScript}`);
  check('script stays small', first + largest > mostScript || scripts.size === 0 ? [`${first + largest} bytes`] : []);
}

await Promise.all([worker(), worker()]);
await zoomsWithKeys();
await staysSmall();
await browser.close();
server.close();

for (const failure of failures) console.log(failure);
console.log(`${all.length} states, languages ${languages.join(' ')}, pictures in build/out/pages`);
console.log(`${passed} passed, ${failures.length} failed`);
process.exit(failures.length === 0 ? 0 : 1);
