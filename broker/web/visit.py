"""One request of one browser at one tenant: everything that a view may know about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import urlsplit

from flask import Flask, current_app, g, request
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header, parse_cookie

from broker.core.errors import Misdirected, NotFound, PageExpired
from broker.core.redirects import allowed
from broker.core.tenant import Client, Tenant
from broker.core.transaction import Transaction
from broker.core.values import Session, TenantId, User
from broker.flows.passwords import Circumstances
from broker.flows.sign_in import Visitor
from broker.web.agent import describe
from broker.web.assets import Asset
from broker.web.client_address import client_address
from broker.web.cookies import Device, Jar
from broker.web.pages import Chrome, Page
from broker.web.parameters import Pairs, read_form, read_query

if TYPE_CHECKING:
    from broker.wiring import Runtime

EXTENSION = "homerealm"
RUNTIME = "homerealm.runtime"
"""In the WSGI environment: the Runtime of this request, from its beginning to its end."""


class House(Protocol):
    """What the extension offers to views (broker/extension.py)."""

    @property
    def runtime(self) -> Runtime: ...

    @property
    def refused(self) -> tuple[str, ...]:
        """What is wrong with the configuration on disk, while an earlier one runs."""

    def at_version(self, version: str) -> Runtime | None:
        """The configuration that a login began with; None when this process does not have it any more."""

    def render(self, content: Page, frame: Chrome) -> str: ...

    def logo(self, tenant: Tenant) -> str | None: ...

    def asset(self, name: str) -> Asset | None: ...


def host_app() -> Flask:
    """The app that answers this request: ours, or somebody's with a broker in it."""
    return current_app


def house() -> House:
    """The broker of the app that answers this request."""
    return cast(House, current_app.extensions[EXTENSION])


@dataclass
class Visit:
    """Made before every request below a tenant; kept in `flask.g`."""

    runtime: Runtime
    tenant: Tenant
    jar: Jar
    query: Pairs
    form: Pairs
    address: str
    client: Client | None = field(default=None)
    """The app behind this page: decides `form-action`, and whose name is shown."""

    def belongs_to(self, transaction: Transaction) -> None:
        """From here on this request is about a login: the configuration is the one that it began with.

        What is off by now is off for it, too: it goes on with the earlier tenant within the bounds of the present one.
        Raises `PageExpired` when the app, or the address that it is to be sent back to, is not configured any more.
        """
        live, client = self.tenant, self.tenant.client(transaction.client)
        self.client = client
        if transaction.config_version == self.runtime.settings.version:
            return
        uri = transaction.request.get("redirect_uri", "")
        if client is not None and not client.internal and not allowed(
            uri, client.redirect_uris, native=client.application_type == "native"
        ):  # fmt: skip
            raise PageExpired(code="client.gone")
        earlier = house().at_version(transaction.config_version)
        tenant = earlier.tenant(live.id) if earlier is not None else None
        if earlier is None or tenant is None or tenant == live or tenant.issuer != live.issuer:
            return  # the present configuration it is; the flow refuses what does not fit it
        self.runtime, self.tenant = earlier, tenant.within(live)
        self.client = self.tenant.client(transaction.client) or client

    @property
    def house(self) -> House:
        """The extension itself: it draws the pages."""
        return house()

    @property
    def base(self) -> str:
        """The path of the issuer; every address of the pages starts with it."""
        return _place(self.tenant.issuer)[1]

    @cached_property
    def reference(self) -> str:
        """`7K3Q-XW92-4T`: on the page and in the log, for whoever asks what happened."""
        return self.runtime.entropy.reference()

    @cached_property
    def language(self) -> str:
        """`ui_locales`, the cookie, the browser, the tenant: the first that the tenant speaks (PAGES)."""
        offered = self.tenant.languages
        if len(offered) == 1:
            return offered[0]
        wanted = [*self.query.get("ui_locales", "").split(), self.device.language]
        for tag in (*wanted, *_by_weight(request.headers.get("Accept-Language", "")[:512])):
            for known in offered:
                if tag and (tag == known or tag.partition("-")[0] == known):
                    return known
        return offered[0]

    @cached_property
    def device(self) -> Device:
        return self.jar.device()

    @cached_property
    def how(self) -> Circumstances:
        return Circumstances(describe(request.user_agent.string), self.reference, self.language, self.address)

    @cached_property
    def browser(self) -> str:
        """Digest of the browser cookie, which is made here when there is none yet."""
        return self.runtime.vault.digest(self.jar.browser())

    @cached_property
    def signed_in(self) -> tuple[Session, User] | None:
        """Who is signed in on this browser, if the session still counts."""
        secret = self.jar.session
        return self.runtime.sign_in.session_of(self.tenant, secret) if secret else None

    @property
    def visitor(self) -> Visitor:
        known = self.signed_in
        return Visitor(self.browser, known[0] if known else None, self.jar.session if known else None, self.how)


@lru_cache(maxsize=4096)
def _place(issuer: str) -> tuple[str, str]:
    """Host and path of an issuer."""
    parts = urlsplit(issuer)
    return parts.netloc, parts.path


@lru_cache(maxsize=1024)
def _by_weight(header: str) -> tuple[str, ...]:
    """Browsers send few different headers, and each takes longer to read than the rest of the request."""
    return tuple(tag for tag, _ in parse_accept_header(header, LanguageAccept))


def visit() -> Visit:
    return cast(Visit, g.homerealm_visit)


def open_visit(endpoint: str | None, values: dict[str, str] | None) -> None:
    """A `url_value_preprocessor`: who is meant, and is the request for us at all.

    Raises `NotFound`, `Misdirected`, `BadRequest`.
    """
    runtime = request.environ.get(RUNTIME) or house().runtime
    tenant = runtime.tenant(TenantId((values or {}).pop("tenant", "")))
    if tenant is None:
        raise NotFound(code="tenant.unknown")
    if request.host != _place(tenant.issuer)[0]:
        raise Misdirected
    g.homerealm_visit = Visit(
        runtime,
        tenant,
        # Not request.cookies, which looks through every header of the request.
        Jar(tenant.issuer, parse_cookie(request.environ), runtime.entropy),
        read_query(request),
        read_form(request) if request.method == "POST" else Pairs(()),
        client_address(request, runtime.settings.trusted_proxies),
    )
