// Draws the PNG files from the SVG files beside this one, with a browser found
// in CHROMIUM (default: chromium on PATH). The PNG files are committed, so that
// no build needs this; run it after changing a drawing:
//
//   node build/icons/render.mjs
import { createRequire } from 'node:module';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync, mkdirSync } from 'node:fs';

const here = new URL('.', import.meta.url);
const { chromium } = createRequire(new URL('../../frontend/package.json', here))('playwright-core');
const executablePath = process.env.CHROMIUM ?? execFileSync('which', ['chromium'], { encoding: 'utf8' }).trim();

const drawings = [
  { from: 'mark.svg', to: (size) => `encounter-launcher-${size}.png`, sizes: [16, 22, 24, 32, 48, 64, 128, 256, 512] },
  { from: 'mark.svg', to: () => '../appicon.png', sizes: [512] },
  ...['idle', 'working', 'attention', 'signed-out'].map((state) => ({
    from: `tray/${state}.svg`,
    to: (size) => `tray/${state}-${size}.png`,
    sizes: [16, 22, 24, 32, 48],
  })),
];

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
const page = await browser.newPage();
for (const { from, to, sizes } of drawings) {
  const svg = readFileSync(new URL(from, here), 'utf8');
  for (const size of sizes) {
    await page.setViewportSize({ width: size, height: size });
    await page.setContent(`<style>*{margin:0}svg{display:block;width:${size}px;height:${size}px}</style>${svg}`);
    const file = new URL(to(size), here);
    mkdirSync(new URL('.', file), { recursive: true });
    writeFileSync(file, await page.screenshot({ omitBackground: true }));
  }
}
await browser.close();
