/*
 * oidc-provider, a certified OpenID provider, in memory and with its own development pages: any user name and any password sign in.
 * Argument: { port, clients: [{ client_id, client_secret, redirect_uris, post_logout_redirect_uris, ... }] } as JSON.
 * Prints { issuer } when it listens, and ends when its standard input ends, so that it never outlives a test.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import Provider from 'oidc-provider';

const { port, clients } = JSON.parse(process.argv[2]);
const keys = [['rsa', { modulusLength: 2048 }, 'RS256'], ['ec', { namedCurve: 'P-256' }, 'ES256']].map(([type, options, alg]) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: alg,
}));

const provider = new Provider(`http://localhost:${port}`, {
  clients: clients.map((client) => ({ grant_types: ['authorization_code', 'refresh_token'], ...client })),
  jwks: { keys },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  claims: { openid: ['sub'], profile: ['name', 'preferred_username'], email: ['email', 'email_verified'] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: { AccessToken: 600, AuthorizationCode: 60, IdToken: 600, Interaction: 600, Grant: 3600, RefreshToken: 3600, Session: 3600 },
  features: { introspection: { enabled: true }, revocation: { enabled: true }, rpInitiatedLogout: { enabled: true }, devInteractions: { enabled: true } },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: id, preferred_username: id, email: `${id}@upstream.example`, email_verified: true }),
  }),
});

provider.listen(port, 'localhost', () => process.stdout.write(`${JSON.stringify({ issuer: `http://localhost:${port}` })}\n`));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
