// Chromium and the policy that `browser-policy` makes: the microphone is given to the
// encounter hosts without a question, and to no other. That a link opens without one
// is seen by every press of the other steps.
import { mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createServer as createPlainServer } from 'node:http';
import { join } from 'node:path';
import { chromium, chromiumPath } from './browser.mjs';
import { run } from './processes.mjs';
import { expect, patience } from './steps.mjs';
import { dir, env, steps } from './world.mjs';

const page = (_, answer) => answer.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>encounter</title>');
const listen = (server) => new Promise((ready) => server.listen(0, '127.0.0.1', () => ready(server.address().port)));

export async function microphone() {
  await steps.step('the microphone: given to the encounter hosts by the generated policy, without a question, and to no other', async () => {
    const own = join(dir, 'microphone');
    mkdirSync(own, { mode: 0o700 });
    const [key, cert] = [join(own, 'key.pem'), join(own, 'cert.pem')];
    const made = await run('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1', '-subj', '/CN=encounters', '-keyout', key, '-out', cert], { env });
    expect(made.code === 0, () => `openssl: ${made.err}`);
    const secure = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, page);
    const plain = createPlainServer(page);
    const [securePort, plainPort] = [await listen(secure), await listen(plain)];
    // A device that plays a tone; who is asked, and whether, is left as it is.
    const context = await chromium.launchPersistentContext(join(own, 'profile'), {
      executablePath: chromiumPath, headless: false, viewport: null, env, ignoreHTTPSErrors: true,
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
        '--disable-dev-shm-usage', '--test-type', '--password-store=basic', '--use-fake-device-for-media-stream', `--host-resolver-rules=MAP *.example 127.0.0.1:${securePort}`],
    });
    try {
      context.setDefaultTimeout(patience);
      const tab = context.pages()[0] ?? await context.newPage();
      const state = async (origin) => {
        await tab.goto(`${origin}/`);
        return tab.evaluate(async () => (await navigator.permissions.query({ name: 'microphone' })).state);
      };
      for (const origin of [`http://127.0.0.1:${plainPort}`, 'https://encounters.vendor.example', 'https://a.below.example']) {
        const found = await state(origin);
        expect(found === 'granted', () => `the microphone on ${origin} is ${found}`);
        const tracks = await tab.evaluate(async () => {
          const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
          const live = stream.getAudioTracks().filter((track) => track.readyState === 'live').length;
          stream.getTracks().forEach((track) => track.stop());
          return live;
        });
        expect(tracks === 1, () => `${origin} got ${tracks} live tracks`);
        const camera = await tab.evaluate(async () => (await navigator.permissions.query({ name: 'camera' })).state);
        expect(camera === 'prompt', () => `the camera on ${origin} is ${camera}`);
      }
      // Pages that may use a microphone, and would have to ask: each secure, none named.
      for (const origin of [`http://localhost:${plainPort}`, 'https://vendor.example', 'https://other.vendor.example', 'https://abelow.example', 'https://encounters.vendor.example.evil.example']) {
        const found = await state(origin);
        expect(found === 'prompt', () => `the microphone on ${origin} is ${found}, and nobody named it`);
      }
    } finally {
      await context.close();
      secure.close();
      plain.close();
    }
  });
}
