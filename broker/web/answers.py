"""From what a flow says to what the browser gets. The only place that knows which page answers which step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from broker.core.attempts import Puzzle
from broker.core.connection import PasswordSignIn, PostForm, RedirectSignIn
from broker.core.errors import ConnectionFailed, InvalidTransition
from broker.core.policy import Step
from broker.core.tenant import Client, ConnectionEntry, Tenant
from broker.core.transaction import Transaction
from broker.flows.sign_in import Next
from broker.web.challenge import puzzles
from broker.web.drawn import IDENTIFIER, REFERENCE, TX, WAIT, Pieces, UsualPage, fill
from broker.web.headers import security_headers
from broker.web.pages import App, Chrome, Page
from broker.web.reply import HTML, AnyReply, Reply, see_other
from broker.web.shield import token
from broker.web.telling import refuse
from broker.web.visit import Visit

STEP_PATHS = {
    Step.CHOOSE_CONNECTION: "/login",
    Step.SIGN_IN: "/login/password",
    Step.SELECT_ACCOUNT: "/login/account",
    Step.CHANGE_PASSWORD: "/login/must-change",
    Step.CONSENT: "/consent",
    Step.BLOCKED: "/login",
}

Headers = tuple[tuple[str, str], ...]
SOON = 2
"""Seconds until a full queue has room again."""


def go(current: Visit, path: str, **query: str) -> AnyReply:
    """303 to a page of this tenant (never 302: a POST must become a GET, RFC 9700 4.12)."""
    given = {key: value for key, value in query.items() if value}
    return see_other(f"{current.base}{path}{'?' + urlencode(given) if given else ''}")


def away(url: str) -> AnyReply:
    """303 to somewhere else: an app, a provider."""
    return see_other(url)


def page(current: Visit, content: Page, *, tx: str = "", status: int = 200, retry_after: int = 0) -> Reply:
    """A page with its frame and its headers."""
    headers = _later(settled(current).headers, status, retry_after or getattr(content, "retry_after", 0))
    return Reply(status, headers, current.house.render(content, chrome(current, tx)).encode())


@dataclass(slots=True)
class Settled:
    """What is the same for every visit that an app sends to a tenant, as long as the configuration is."""

    tenant: Tenant
    client: Client | None
    headers: Headers
    offered: tuple[ConnectionEntry, ...]
    pages: dict[tuple[object, ...], Pieces]
    """By language and by how they look; see `usual`."""


SETTLED = 1024
"""Apps that are remembered at most; each has a few pages of a few kB."""


def settled(current: Visit) -> Settled:
    tenant, client, kept = current.tenant, current.client, current.house.settled
    key = tenant.id, client.client_id if client else None
    found: Settled | None = kept.get(key)
    if found is None or found.tenant is not tenant or (found.client is not client and found.client != client):
        headers = security_headers(
            form_targets(current), images=[client.logo_uri] if client and client.logo_uri else (),
            https=tenant.issuer.startswith("https:"),
        )  # fmt: skip
        if len(kept) >= SETTLED:
            kept.clear()
        found = kept[key] = Settled(tenant, client, (HTML, *headers.items()), tenant.connections_of(client), {})
    return found


def usual(
    current: Visit, tx: str, looks: tuple[object, ...], identifier: str, content: Callable[[], UsualPage],
    *, status: int = 200, retry_after: int = 0,
) -> Reply:  # fmt: skip
    """A page of every login, with nothing to say but what it always says.

    `looks` is everything that decides how it looks for this app, out of a small number of ways; `content` is asked
    where it never looked like this before.
    """
    puzzle, made = puzzles(current, tx), dict[str, Puzzle]()
    kept, key = settled(current), (current.language, bool(tx), puzzle is not None, *looks)
    pieces = kept.pages.get(key)
    if pieces is None:
        pieces = kept.pages[key] = current.house.pieces(content(), chrome(current, tx))

    def value(name: str) -> str:
        if name == TX:
            return tx
        if name == IDENTIFIER:
            return identifier
        if name == REFERENCE:
            return current.reference
        if name == WAIT:
            return current.house.duration(current.language, retry_after)
        fact, colon, form = name.partition(":")
        if not colon or puzzle is None:
            return token(current, name, tx)
        if form not in made:
            made[form] = puzzle(form)
        return str(getattr(made[form], fact))

    return Reply(status, _later(kept.headers, status, retry_after), fill(pieces, value).encode())


def _later(headers: Headers, status: int, retry_after: int) -> Headers:
    """An answer that says "later" says when (RFC 9110 10.2.3)."""
    if not retry_after and status not in (429, 503):
        return headers
    return (*headers, ("Retry-After", str(retry_after or SOON)))


def form_targets(current: Visit) -> frozenset[str]:
    """Where the chain of redirects behind a form of this page may lead: the app, and the providers it offers."""
    upstream = current.runtime.http_origins(current.tenant)
    return upstream | current.client.origins if current.client else upstream


def chrome(current: Visit, tx: str = "") -> Chrome:
    tenant, client = current.tenant, current.client
    shown = client if client is not None and not client.internal else None
    return Chrome(
        tenant=tenant.name,
        base=current.base,
        csrf=lambda form: token(current, form, tx),
        puzzle=puzzles(current, tx),
        tx=tx,
        app=_app(shown) if shown else None,
        language=current.language,
        environment=tenant.environment,
        logo=current.house.logo(tenant),
        color=tenant.branding.color,
        color_dark=tenant.branding.color_dark,
        cancel=bool(tx and shown),
        support_url=tenant.branding.support_url,
        support_email=tenant.branding.support_email,
        reference=current.reference,
    )


def _app(client: Client) -> App:
    return App(client.client_name, client.client_uri, client.logo_uri, client.policy_uri, client.tos_uri)


def keep(current: Visit, before: Transaction, following: Next) -> Next:
    """Save a move of a stored login."""
    current.runtime.sign_in.keep(before, following.transaction, following.also)
    return following


def follow(current: Visit, following: Next, *, stored: bool = True) -> AnyReply:
    """303 to the page of the next step; or to the provider; or, at the end, to the app."""
    current.client = following.client
    if following.step is Step.ISSUE:
        return issue(current, following, stored=stored)
    if following.step is Step.SIGN_IN:
        connection = current.runtime.sign_in.chosen(current.tenant, following.transaction)
        if isinstance(connection, RedirectSignIn):
            return depart(current, following.transaction)
    return go(current, STEP_PATHS[following.step], tx=following.transaction.id)


def depart(current: Visit, before: Transaction) -> AnyReply:
    """Off to the provider; the state is kept in the transaction."""
    flow = current.runtime.sign_in
    try:
        after, departure = flow.depart(current.tenant, before, current.language)
    except ConnectionFailed as failure:
        return upstream_failed(current, before, failure)
    flow.keep(before, after)
    if isinstance(departure, PostForm):
        raise InvalidTransition(before.id, code="connection.binding")
    return away(departure.url)


def upstream_failed(current: Visit, transaction: Transaction, failure: Exception) -> AnyReply:
    """Back to the login page, which says what happened; the login goes on from there."""
    flow = current.runtime.sign_in
    code = getattr(failure, "code", "")
    notice = _UPSTREAM_NOTICES.get(code, "upstream_failed")
    title = transaction.connection or ""
    refuse(current, "connection.failed", code, getattr(failure, "status", 502),
        detail=getattr(failure, "detail", ""), transaction=transaction,
    )  # fmt: skip
    flow.keep(transaction, transaction.forget_choice(f"{notice}:{title}:{current.reference}"))
    return go(current, "/login", tx=transaction.id)


_UPSTREAM_NOTICES = {
    "connection.denied": "upstream_cancelled",
    "connection.no_email": "upstream_no_email",
    "connection.unknown_user": "upstream_unknown_user",
}


def issue(current: Visit, following: Next, *, stored: bool = True) -> AnyReply:
    """The end of a login: session cookie, and the app's own address with a code."""
    done = current.runtime.sign_in.finish(current.tenant, following, current.visitor, stored=stored)
    current.runtime.log("login.finished", current.reference, tenant=current.tenant.id, client=done.client.client_id,
                        connection=done.session.identity.connection, user=done.user.id)  # fmt: skip
    if done.secret:
        current.jar.sign_in(done.secret)
        current.jar.remember_connection(done.session.identity.connection)
    if done.code is None:
        return away(following.transaction.request.get("redirect_uri", f"{current.tenant.issuer}/account"))
    return away(current.runtime.provider.respond(current.tenant, done.transaction, done.code))


def home_of(current: Visit, client: Client | None) -> str | None:
    """The app's own door: a fresh request of its own making, never a stored one (OIDC Core 4)."""
    if client is None:
        return None
    if client.initiate_login_uri:
        glue = "&" if "?" in client.initiate_login_uri else "?"
        return f"{client.initiate_login_uri}{glue}{urlencode({'iss': current.tenant.issuer})}"
    return client.client_uri


def takes_passwords(current: Visit, connection: str) -> bool:
    found = current.runtime.connection(current.tenant, connection)  # type: ignore[arg-type]
    return found is not None and isinstance(found, PasswordSignIn)


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
