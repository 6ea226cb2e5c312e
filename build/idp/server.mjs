// An identity provider of others (npm oidc-provider, certified) with an EHR server as
// its client, for the backend's test of access tokens: see run.sh. It prints its
// address, and ends with its parent.
//
// Only who its clients and persons are is ours.
import { randomBytes } from 'node:crypto';
import { Provider, generateJWKS } from '../e2e/idp-parts.mjs';

const audience = 'urn:org-backend'; // RFC 8707 §2: an absolute URI
const [port] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const server = (client_id) => ({
  client_id, client_secret: `${client_id}-secret`, grant_types: ['client_credentials'], response_types: [], redirect_uris: [],
  scope: 'launches other',
});
const resource = { scope: 'launches other', audience, accessTokenFormat: 'jwt', accessTokenTTL: 300, jwt: { sign: { alg: 'RS256' } } };

const provider = new Provider(issuer, {
  clients: [server('ehr-server'), server('another-server')],
  scopes: ['launches', 'other'],
  jwks: await generateJWKS(),
  cookies: { keys: [randomBytes(32).toString('hex')] },
  findAccount: async (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  extraTokenClaims: async (_ctx, token) => token.accountId && { email: 'ada@hospital.example', external_provider_id: 'D-17' },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: async (_ctx, asked) => {
        if (asked !== audience) throw new Error('no such resource');
        return resource;
      },
    },
  },
});

// A person's token of the same client, as its sign-in would end with: there is no
// browser here.
provider.use(async (ctx, next) => {
  if (ctx.path !== '/control/person') return next();
  const client = await provider.Client.find(ctx.query.client);
  const token = new provider.AccessToken({ accountId: 'subject-1', client, grantId: 'none', gty: 'authorization_code', scope: 'launches' });
  token.resourceServer = new provider.ResourceServer(audience, resource);
  ctx.body = { access_token: await token.save() };
});

provider.listen(Number(port), '127.0.0.1', () => console.log(issuer));
process.stdin.on('end', () => process.exit(0)).resume();
