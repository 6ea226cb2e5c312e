// Looking for secrets in files, in every form in which they might have been
// written.
import { readdirSync, readFileSync, lstatSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

/** The forms in which a secret would still be one. */
function forms(secret) {
  const out = new Set([secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1), Buffer.from(secret).toString('hex')]);
  // Base64 of the secret inside something longer: three alignments, without the
  // ends that depend on what stands beside it.
  for (let before = 0; before < 3; before++) {
    const text = Buffer.from('x'.repeat(before) + secret).toString('base64').replaceAll('=', '');
    const inner = text.slice(before ? 4 : 0, -2);
    out.add(inner).add(inner.replaceAll('+', '-').replaceAll('/', '_'));
  }
  return [...out].map((text) => Buffer.from(text));
}

/** The names of the secrets that stand in some bytes. secrets: Map of name → text. */
export function secretsIn(bytes, secrets) {
  return [...secrets].filter(([, secret]) => forms(secret).some((form) => bytes.includes(form))).map(([name]) => name);
}

/** Every file below a folder, links not followed. */
export function filesBelow(dir, skip = () => false) {
  const out = [];
  for (const name of readdirSync(dir)) {
    const path = join(dir, name);
    if (skip(path)) continue;
    const info = lstatSync(path, { throwIfNoEntry: false });
    if (!info) continue;
    if (info.isDirectory()) out.push(...filesBelow(path, skip));
    else if (info.isSymbolicLink()) out.push({ path, bytes: Buffer.from(readlinkSync(path)), mode: info.mode });
    else if (info.isFile()) out.push({ path, bytes: readFileSync(path), mode: info.mode });
    else out.push({ path, bytes: Buffer.alloc(0), mode: info.mode });
  }
  return out;
}
