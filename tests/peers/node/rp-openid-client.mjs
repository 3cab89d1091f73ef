/*
 * openid-client, a certified relying party. On standard input: { issuer, client_id, client_secret, redirect_uri,
 * post_logout_redirect_uri, accounts: { origin | '*': { user, password } }, authorize: {}, client_auth }.
 */
import * as client from 'openid-client';
import { Verdict, demand, task } from './verdict.mjs';
import { Visitor } from './visitor.mjs';

const given = await task();
const verdict = new Verdict();
const visitor = new Visitor(given.accounts);
const ends = [given.redirect_uri];

const authentication = given.client_auth === 'post' ? client.ClientSecretPost(given.client_secret) : client.ClientSecretBasic(given.client_secret);
const config = await verdict.check('discovery', () => client.discovery(
  new URL(given.issuer), given.client_id, given.metadata ?? {}, authentication,
  { execute: [client.allowInsecureRequests, client.enableNonRepudiationChecks] },
));

async function request(more = {}) {
  const verifier = client.randomPKCECodeVerifier();
  const expected = { pkceCodeVerifier: verifier, expectedState: client.randomState(), expectedNonce: client.randomNonce(), idTokenExpected: true };
  const url = client.buildAuthorizationUrl(config, {
    redirect_uri: given.redirect_uri, scope: 'openid profile email offline_access', prompt: 'consent',
    state: expected.expectedState, nonce: expected.expectedNonce,
    code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256', ...given.authorize, ...more,
  });
  return { url, expected };
}

const { url, expected } = await request();
const arrived = await verdict.check('sign in, consent, and back with a code', () => visitor.travel(url, ends));
let tokens = await verdict.check('code for tokens: iss, state, nonce, PKCE, ID token and its signature', () => client.authorizationCodeGrant(config, arrived, expected));
const subject = tokens.claims().sub;
const signedInAt = tokens.claims().auth_time;
const first = await verdict.check('userinfo for the same subject', () => client.fetchUserInfo(config, tokens.access_token, subject));
const silent = await request({ prompt: 'none', scope: 'openid' });
await verdict.check('prompt=none succeeds while signed in', async () => {
  const back = await visitor.travel(silent.url, ends);
  const again = await client.authorizationCodeGrant(config, back, silent.expected);
  demand(again.claims().sub === subject, 'another subject');
});

const spent = tokens.refresh_token;
tokens = await verdict.check('refresh', async () => {
  demand(spent, 'no refresh token');
  const renewed = await client.refreshTokenGrant(config, spent);
  demand(renewed.refresh_token && renewed.refresh_token !== spent, 'the refresh token was not rotated');
  demand(renewed.access_token !== tokens.access_token, 'the same access token again');
  await client.fetchUserInfo(config, renewed.access_token, subject);
  return renewed;
});
await verdict.refused('a spent refresh token is refused', 'invalid_grant', () => client.refreshTokenGrant(config, spent));
await verdict.refused('and its whole family with it', 'invalid_grant', () => client.refreshTokenGrant(config, tokens.refresh_token));

const second = await request();
const back = await verdict.check('a second authorization in the same browser', () => visitor.travel(second.url, ends));
tokens = await verdict.check('code for tokens, again', () => client.authorizationCodeGrant(config, back, second.expected));
await verdict.check('introspection: an active token, and the same subject', async () => {
  const state = await client.tokenIntrospection(config, tokens.access_token);
  demand(state.active === true && state.sub === subject, JSON.stringify(state));
});
await verdict.check('revocation: the token is dead afterwards', async () => {
  await client.tokenRevocation(config, tokens.refresh_token);
  const state = await client.tokenIntrospection(config, tokens.refresh_token);
  demand(state.active === false, JSON.stringify(state));
});
await verdict.refused('a code is good for one use', 'invalid_grant', () => client.authorizationCodeGrant(config, back, second.expected));

await verdict.check('RP-initiated logout comes back with its state', async () => {
  const leave = client.buildEndSessionUrl(config, { post_logout_redirect_uri: given.post_logout_redirect_uri, id_token_hint: tokens.id_token, state: 'farewell' });
  const gone = await visitor.travel(leave, [given.post_logout_redirect_uri]);
  demand(gone.searchParams.get('state') === 'farewell', gone.href);
});
const after = await request({ prompt: 'none', scope: 'openid' });
await verdict.refused('prompt=none answers login_required after the logout', 'login_required', async () => {
  const answer = await visitor.travel(after.url, ends);
  return client.authorizationCodeGrant(config, answer, after.expected);
});

verdict.print({ subject, auth_time: signedInAt, userinfo: first, pages: visitor.pages });
