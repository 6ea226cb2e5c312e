// The identity provider of the end-to-end test: npm oidc-provider, which knows
// nothing of this project, with two clinicians and a page to choose one. It runs
// in a process of its own and tells its parent every token that it hands out.
//
// Only its page and its accounts are ours. It asks for no password.
import { createServer } from 'node:http';
import { randomBytes } from 'node:crypto';
import { Provider, generateJWKS } from './idp-parts.mjs';

const { port, audience, clientID, people } = JSON.parse(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const say = (message) => process.send?.(message);

const byID = new Map(people.map((person) => [person.subject, person]));
const claimsOf = (person) => ({ email: person.email, email_verified: true, name: person.name, external_provider_id: person.providerID });

const provider = new Provider(issuer, {
  clients: [{
    client_id: clientID,
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    redirect_uris: ['http://127.0.0.1/callback'], // RFC 8252 §7.3: any port
  }],
  jwks: await generateJWKS(),
  cookies: { keys: [randomBytes(32).toString('hex')] },
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
  conformIdTokenClaims: false, // e-mail and name in the ID token, as most providers do
  findAccount: async (_ctx, id) => byID.has(id) && { accountId: id, claims: async () => ({ sub: id, ...claimsOf(byID.get(id)) }) },
  extraTokenClaims: async (_ctx, token) => token.accountId && claimsOf(byID.get(token.accountId)),
  pkce: { required: () => true, methods: ['S256'] },
  rotateRefreshToken: true,
  ttl: { AccessToken: 300, AuthorizationCode: 60, IdToken: 300, RefreshToken: 8 * 3600, Session: 8 * 3600, Grant: 8 * 3600, Interaction: 600 },
  features: {
    devInteractions: { enabled: false },
    revocation: { enabled: true },
    rpInitiatedLogout: {
      enabled: true,
      // Whoever comes with the ID token of the session is not asked again.
      logoutSource: async (ctx, form) => {
        ctx.body = `<!doctype html><title>Signing out</title>${form.replace('</form>', '<input type="hidden" name="logout" value="yes"></form>')}<script>document.forms[0].submit()</script>`;
      },
      postLogoutSuccessSource: async (ctx) => { ctx.body = '<!doctype html><title>Signed out</title><p>You are signed out.</p>'; },
    },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: async (_ctx, resource) => {
        if (resource !== audience) throw new Error('no such resource');
        return { scope: '', audience, accessTokenFormat: 'jwt', accessTokenTTL: 300, jwt: { sign: { alg: 'RS256' } } };
      },
    },
  },
  interactions: { url: (_ctx, interaction) => `/sign-in/${interaction.uid}` },
  renderError: async (ctx, out) => { ctx.type = 'text/plain'; ctx.body = `The identity provider refuses: ${out.error} ${out.error_description ?? ''}`; },
});

provider.on('grant.success', (ctx) => say({ event: 'issued', grant: ctx.oidc.params.grant_type, body: ctx.body }));
provider.on('end_session.success', () => say({ event: 'ended' }));
provider.on('grant.revoked', () => say({ event: 'revoked' }));
for (const name of ['server_error', 'grant.error', 'authorization.error', 'revocation.error']) {
  provider.on(name, (_ctx, error) => say({ event: 'trouble', name, text: `${error.message}: ${error.error_description ?? ''} ${error.error_detail ?? ''}` }));
}

const page = (uid) => `<!doctype html><html lang="en"><meta charset="utf-8"><title>Sign in</title><link rel="icon" href="data:,">
<style>body{font:1.1rem/1.5 sans-serif;max-width:30rem;margin:4rem auto;padding:0 1rem}button{font:inherit;display:block;width:100%;margin:.6rem 0;padding:.7rem}</style>
<h1>Sign in</h1><p>A stand-in for the hospital's identity provider (oidc-provider). Who are you?</p>
<form method="post" action="/sign-in/${uid}">${people.map((p) => `<button name="who" value="${p.subject}">${p.name}</button>`).join('')}</form></html>`;

async function signIn(request, response) {
  const details = await provider.interactionDetails(request, response);
  if (request.method !== 'POST') {
    say({ event: 'page', params: details.params });
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
    response.end(page(details.uid));
    return;
  }
  let body = '';
  for await (const chunk of request) body += chunk;
  const accountId = new URLSearchParams(body).get('who');
  const grant = new provider.Grant({ accountId, clientId: details.params.client_id });
  grant.addOIDCScope(details.params.scope);
  // The page above is both: who you are, and that you agree.
  const result = { login: { accountId }, consent: { grantId: await grant.save() } };
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}

const callback = provider.callback();
const server = createServer((request, response) => {
  if (!request.url.startsWith('/sign-in/')) return callback(request, response);
  signIn(request, response).catch((error) => {
    say({ event: 'trouble', name: 'sign-in', text: String(error) });
    response.writeHead(400, { 'content-type': 'text/plain' });
    response.end('This sign-in is over.');
  });
});
server.listen(port, '127.0.0.1', () => say({ event: 'ready', issuer }));
process.on('disconnect', () => process.exit(0));
