// What the identity provider needs from the packages that the front end pins.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { fromFrontend } from './needs.mjs';

export const Provider = (await fromFrontend('oidc-provider')).default;

/** A fresh signing key, as a JWK set. */
export async function generateJWKS() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: randomUUID() }] };
}
