/*
 * Debian's mod_auth_openidc, a certified relying party, seen from a person's browser. On standard input:
 * { base, accounts: { origin | '*': { user, password } } }, with Apache already running at `base`.
 */
import { Verdict, demand, task } from './verdict.mjs';
import { Visitor } from './visitor.mjs';

const { base, accounts } = await task();
const verdict = new Verdict();
const visitor = new Visitor(accounts);

async function session() {
  const page = await visitor.open(`${base}/callback?info=json`, []);
  demand(page.status === 200, `${page.status} ${page.html.slice(0, 200)}`);
  return JSON.parse(page.html);
}

await verdict.check('a protected page leads through the sign-in and is shown', async () => {
  const page = await visitor.visit(`${base}/protected/`, base);
  demand(page.status === 200 && page.html.includes('Behind the door'), `${page.status} at ${page.url}: ${page.html.slice(0, 200)}`);
});
const before = await verdict.check('ID token and userinfo tell of the same subject', async () => {
  const found = await session();
  demand(found.id_token?.sub && found.userinfo?.sub === found.id_token.sub, JSON.stringify(found));
  return found;
});
await verdict.check('refresh: another access token and another refresh token', async () => {
  const query = new URLSearchParams({ refresh: `${base}/protected/`, access_token: before.access_token });
  const page = await visitor.open(`${base}/callback?${query}`, []);
  demand(page.status === 200 && page.html.includes('Behind the door') && !page.url.search.includes('error'), `${page.status} at ${page.url}`);
  const now = await session();
  demand(now.access_token !== before.access_token, 'the access token is the old one');
  demand(now.refresh_token && now.refresh_token !== before.refresh_token, 'the refresh token was not rotated');
});
await verdict.check('logout at the provider, and back', async () => {
  const page = await visitor.visit(`${base}/callback?${new URLSearchParams({ logout: `${base}/bye/` })}`, base);
  demand(page.status === 200 && page.html.includes('Outside again'), `${page.status} at ${page.url}`);
});
await verdict.check('the protected page asks for a sign-in again', async () => {
  const page = await visitor.open(`${base}/protected/`, []);
  demand(page.url.origin !== base && page.status === 200, `${page.status} at ${page.url}`);
});

verdict.print({ subject: before.id_token.sub, auth_time: before.id_token.auth_time, userinfo: before.userinfo, pages: visitor.pages });
