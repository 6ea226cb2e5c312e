// The browser of the MSI's test: notes each address that it is given, and signs in where that is asked.
//
//   node build/msi/browser.mjs FILE ADDRESS
import { appendFileSync } from 'node:fs';

const [file, address] = process.argv.slice(2);
appendFileSync(file, `${address}\n`);
if (new URL(address).searchParams.has('code_challenge')) {
  const page = await fetch(address);
  const request = new URL(page.url).searchParams.get('request');
  await fetch(new URL('/sign-in', page.url), { method: 'POST', body: new URLSearchParams({ request, clinician: 'ada' }) });
}
