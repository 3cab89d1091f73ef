/*
 * A person with a plain browser: keeps cookies, follows redirects, answers the forms that ask who they are.
 * Fields are found by their autocomplete tokens, as a password manager does it; by name and type where a page has none.
 */
import { request } from 'node:http';

const TAG = /<(\/?form|input|button)\b((?:[^>"']|"[^"]*"|'[^']*')*)>/gi;
const ATTRIBUTE = /([^\s="'<>/]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?/g;
const ENTITIES = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
const YES = /\b(accept|allow|approve|authori[sz]e|agree|confirm|continue|yes|sign out|log out)\b/i;
const NO = /\b(deny|decline|cancel|abort|not|stay)\b/i;
const NAMES = ['username', 'login', 'email', 'identifier'];

const unescape = (text) => text
  .replace(/&#x([0-9a-f]+);/gi, (_, code) => String.fromCodePoint(parseInt(code, 16)))
  .replace(/&#(\d+);/g, (_, code) => String.fromCodePoint(Number(code)))
  .replace(/&(\w+);/g, (all, name) => ENTITIES[name] ?? all);

function attributes(text) {
  const found = {};
  for (const [, name, a, b, c] of text.matchAll(ATTRIBUTE)) found[name.toLowerCase()] = unescape(a ?? b ?? c ?? '');
  return found;
}

/** The forms of a page, in the order of the document. */
export function forms(html) {
  const found = [];
  let current;
  for (const match of html.matchAll(TAG)) {
    const tag = match[1].toLowerCase();
    const attrs = attributes(match[2]);
    if (tag === 'form') {
      current = { action: attrs.action ?? '', method: (attrs.method ?? 'get').toLowerCase(), id: attrs.id, fields: [], buttons: [] };
      found.push(current);
    } else if (tag === '/form') {
      current = undefined;
    } else {
      const owner = attrs.form ? found.find(({ id }) => id === attrs.form) : current;
      if (!owner || 'disabled' in attrs) continue;
      const type = (attrs.type ?? (tag === 'button' ? 'submit' : 'text')).toLowerCase();
      if (type === 'submit') {
        const from = match.index + match[0].length;
        const label = tag === 'button' ? html.slice(from, html.indexOf('</button', from)).replace(/<[^>]*>/g, ' ').trim() : attrs.value;
        owner.buttons.push({ ...attrs, label });
      } else if (tag === 'input') {
        owner.fields.push({ ...attrs, type });
      }
    }
  }
  return found;
}

const marked = (form, token) => form.fields.find(({ autocomplete }) => autocomplete?.toLowerCase().split(/\s+/).includes(token));
const secretField = (form) => marked(form, 'current-password')
  ?? form.fields.find(({ type, autocomplete }) => type === 'password' && !autocomplete?.includes('new-password'));
const nameField = (form) => {
  const found = marked(form, 'username') ?? form.fields.find(({ type, name }) => ['text', 'email'].includes(type) && NAMES.includes(name));
  return found && found.type !== 'hidden' && !('readonly' in found) ? found : undefined;
};
const yesButton = (form) => form.buttons.find(({ label = '', value = '' }) => YES.test(`${label} ${value}`) && !NO.test(`${label} ${value}`));

/** What the page asks, and the answers of this person: { form, filled, button }, or undefined. */
function answer(html, { user, password }) {
  const found = forms(html);
  for (const form of found) {
    const secret = secretField(form);
    if (secret) {
      const name = nameField(form);
      return { step: 'password', form, filled: { [secret.name]: password, ...(name && { [name.name]: user }) } };
    }
  }
  for (const form of found) {
    const name = nameField(form);
    if (name) return { step: 'identifier', form, filled: { [name.name]: user } };
  }
  for (const form of found) {
    const button = yesButton(form);
    if (button) return { step: `confirm ${button.label}`, form, filled: {}, button };
  }
  return undefined;
}

/** One request. Not by `fetch`, which says in Sec-Fetch-Mode that it is no browser, and relying parties then answer 401. */
function exchange(url, method, headers, body) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers, timeout: 20_000 }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => resolve({
        status: response.statusCode, location: response.headers.location, cookies: response.headers['set-cookie'] ?? [],
        html: Buffer.concat(parts).toString(),
      }));
    });
    sent.on('error', reject);
    sent.on('timeout', () => sent.destroy(new Error(`no answer from ${url} in 20 s`)));
    sent.end(body);
  });
}

export class Visitor {
  /** `accounts`: origin -> { user, password }; '*' for any other origin. */
  constructor(accounts) {
    this.accounts = accounts;
    this.jar = [];
    this.pages = [];
  }

  #keep(url, line) {
    const [pair, ...options] = line.split(';');
    const at = pair.indexOf('=');
    const option = Object.fromEntries(options.map((text) => {
      const [name, ...value] = text.trim().split('=');
      return [name.toLowerCase(), value.join('=')];
    }));
    const path = option.path?.startsWith('/') ? option.path : url.pathname.replace(/\/[^/]*$/, '') || '/';
    const cookie = { host: url.hostname, path, name: pair.slice(0, at).trim(), value: pair.slice(at + 1).trim() };
    this.jar = this.jar.filter((old) => old.host !== cookie.host || old.path !== cookie.path || old.name !== cookie.name);
    const gone = Number(option['max-age'] ?? 1) <= 0 || (option.expires && Date.parse(option.expires) < Date.now());
    if (!gone) this.jar.push(cookie);
  }

  #cookies(url) {
    return this.jar
      .filter(({ host, path }) => host === url.hostname
        && (url.pathname === path || url.pathname.startsWith(path.endsWith('/') ? path : `${path}/`)))
      .map(({ name, value }) => `${name}=${value}`).join('; ');
  }

  /** Go to an address; ends at a page { url, status, html }, or at { arrived } when a redirect leads to one of `ends`. */
  async open(address, ends, { body, from } = {}) {
    let url = new URL(address);
    let method = body === undefined ? 'GET' : 'POST';
    for (let hop = 0; hop < 20; hop += 1) {
      if (ends.some((end) => url.href.startsWith(end) && ['', '?', '#', '&'].includes(url.href.charAt(end.length)))) return { arrived: url };
      const headers = {
        accept: 'text/html',
        'user-agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
        'sec-fetch-mode': 'navigate',
        'sec-fetch-dest': 'document',
        'sec-fetch-site': from ? (from.origin === url.origin ? 'same-origin' : 'same-site') : 'none',
      };
      const cookies = this.#cookies(url);
      if (cookies) headers.cookie = cookies;
      if (from) headers.referer = from.href;
      if (method === 'POST') {
        headers['content-type'] = 'application/x-www-form-urlencoded';
        headers['content-length'] = Buffer.byteLength(body);
        headers.origin = from.origin;
      }
      const response = await exchange(url, method, headers, method === 'POST' ? body : undefined);
      for (const line of response.cookies) this.#keep(url, line);
      const { location, html } = response;
      if (response.status < 300 || response.status >= 400 || !location) {
        this.pages.push(`${response.status} ${url.origin}${url.pathname}`);
        return { url, status: response.status, html };
      }
      if (response.status !== 307 && response.status !== 308) method = 'GET';
      url = new URL(location, url);
    }
    throw new Error(`more than 20 redirects, at ${url}`);
  }

  /** Go to an address and answer every page until a redirect leads to one of `ends`; the address where it led. */
  async travel(address, ends) {
    const page = await this.#answerAll(await this.open(address, ends), ends, (at) => at.arrived);
    return page.arrived;
  }

  /** Go to an address and answer every page until one of `origin` is shown; that page. */
  async visit(address, origin) {
    return this.#answerAll(await this.open(address, []), [], (at) => at.url.origin === origin);
  }

  async #answerAll(first, ends, done) {
    let page = first;
    for (let asked = 0; asked < 12 && !done(page); asked += 1) {
      const words = page.html.replace(/<(style|script|head)\b[\s\S]*?<\/\1>|<[^>]*>/gi, ' ').replace(/\s+/g, ' ').trim().slice(0, 300);
      if (page.status !== 200) throw new Error(`${page.status} at ${page.url}: ${words}`);
      const reply = answer(page.html, this.accounts[page.url.origin] ?? this.accounts['*']);
      if (!reply) throw new Error(`no form to answer at ${page.url}: ${words}`);
      page = await this.submit(page, reply, ends);
    }
    if (!done(page)) throw new Error(`asked too often: ${this.pages.join(', ')}`);
    return page;
  }

  /** Press a button of a form: the given one, else the first. */
  async submit(page, { form, filled, button }, ends) {
    const data = new URLSearchParams();
    for (const field of form.fields) {
      if (!field.name || (['checkbox', 'radio'].includes(field.type) && !('checked' in field))) continue;
      data.append(field.name, filled[field.name] ?? field.value ?? '');
    }
    const pressed = button ?? form.buttons[0] ?? {};
    if (pressed.name) data.append(pressed.name, pressed.value ?? '');
    const target = new URL(pressed.formaction || form.action || page.url, page.url);
    if ((pressed.formmethod ?? form.method) === 'post') return this.open(target, ends, { body: data.toString(), from: page.url });
    target.search = data.toString();
    return this.open(target, ends, { from: page.url });
  }
}
