/*
 * oauth4webapi, a certified relying party that leaves every step to its caller. Takes what rp-openid-client.mjs takes;
 * `discovery: 'oauth2'` reads the metadata of RFC 8414 instead.
 */
import * as oauth from 'oauth4webapi';
import { Verdict, demand, task } from './verdict.mjs';
import { Visitor } from './visitor.mjs';

const given = await task();
const verdict = new Verdict();
const visitor = new Visitor(given.accounts);
const plain = { [oauth.allowInsecureRequests]: true };
const issuer = new URL(given.issuer);
const client = { client_id: given.client_id, ...given.metadata };
const authentication = given.client_auth === 'post' ? oauth.ClientSecretPost(given.client_secret) : oauth.ClientSecretBasic(given.client_secret);

const server = await verdict.check('discovery', async () => {
  const response = await oauth.discoveryRequest(issuer, { ...plain, algorithm: given.discovery ?? 'oidc' });
  return oauth.processDiscoveryResponse(issuer, response);
});

async function authorize(more = {}) {
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const nonce = oauth.generateRandomNonce();
  const url = new URL(server.authorization_endpoint);
  const params = {
    client_id: given.client_id, redirect_uri: given.redirect_uri, response_type: 'code', scope: 'openid profile email offline_access',
    prompt: 'consent', state, nonce, code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
    ...given.authorize, ...more,
  };
  for (const [name, value] of Object.entries(params)) url.searchParams.set(name, value);
  const arrived = await visitor.travel(url, [given.redirect_uri]);
  return { answer: oauth.validateAuthResponse(server, client, arrived, state), verifier, nonce };
}

async function redeem({ answer, verifier, nonce }) {
  const response = await oauth.authorizationCodeGrantRequest(server, client, authentication, answer, given.redirect_uri, verifier, plain);
  const tokens = await oauth.processAuthorizationCodeResponse(server, client, response, { expectedNonce: nonce, requireIdToken: true });
  await oauth.validateApplicationLevelSignature(server, response, plain);
  return tokens;
}

async function userinfo(token, subject) {
  const response = await oauth.userInfoRequest(server, client, token, plain);
  return oauth.processUserInfoResponse(server, client, subject, response);
}

async function refresh(token) {
  const response = await oauth.refreshTokenGrantRequest(server, client, authentication, token, plain);
  return oauth.processRefreshTokenResponse(server, client, response);
}

async function introspect(token) {
  const response = await oauth.introspectionRequest(server, client, authentication, token, plain);
  return oauth.processIntrospectionResponse(server, client, response);
}

const grant = await verdict.check('sign in, consent, and back with a code', () => authorize());
let tokens = await verdict.check('code for tokens: PKCE, nonce, ID token and its signature', () => redeem(grant));
const { sub: subject, auth_time: signedInAt } = oauth.getValidatedIdTokenClaims(tokens);
const first = await verdict.check('userinfo for the same subject', () => userinfo(tokens.access_token, subject));

const spent = tokens.refresh_token;
tokens = await verdict.check('refresh', async () => {
  const renewed = await refresh(spent);
  demand(renewed.refresh_token && renewed.refresh_token !== spent, 'the refresh token was not rotated');
  await userinfo(renewed.access_token, subject);
  return renewed;
});
await verdict.refused('a spent refresh token is refused', 'invalid_grant', () => refresh(spent));
await verdict.refused('and its whole family with it', 'invalid_grant', () => refresh(tokens.refresh_token));

const second = await verdict.check('a second authorization in the same browser', () => authorize());
tokens = await verdict.check('code for tokens, again', () => redeem(second));
await verdict.check('introspection: an active token, and the same subject', async () => {
  const state = await introspect(tokens.access_token);
  demand(state.active === true && state.sub === subject, JSON.stringify(state));
});
await verdict.check('revocation: the token is dead afterwards', async () => {
  const response = await oauth.revocationRequest(server, client, authentication, tokens.refresh_token, plain);
  await oauth.processRevocationResponse(response);
  const state = await introspect(tokens.refresh_token);
  demand(state.active === false, JSON.stringify(state));
});
await verdict.refused('a code is good for one use', 'invalid_grant', () => redeem(second));

await verdict.check('RP-initiated logout comes back with its state', async () => {
  const leave = new URL(server.end_session_endpoint);
  leave.searchParams.set('id_token_hint', tokens.id_token);
  leave.searchParams.set('post_logout_redirect_uri', given.post_logout_redirect_uri);
  leave.searchParams.set('state', 'farewell');
  const gone = await visitor.travel(leave, [given.post_logout_redirect_uri]);
  demand(gone.searchParams.get('state') === 'farewell', gone.href);
});
await verdict.refused('prompt=none answers login_required after the logout', 'login_required', () => authorize({ prompt: 'none', scope: 'openid' }));

verdict.print({ subject, auth_time: signedInAt, userinfo: first, pages: visitor.pages });
