"""One request of one browser at one tenant: everything that a view may know about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload
from urllib.parse import urlsplit

from flask import Flask, current_app, g, request
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

from broker.core.errors import Misdirected, NotFound, PageExpired
from broker.core.redirects import allowed
from broker.core.tenant import Client, Tenant
from broker.core.transaction import Transaction
from broker.core.values import Session, TenantId, User
from broker.flows.guard import Account, Origin
from broker.flows.passwords import Circumstances
from broker.flows.sign_in import Visitor
from broker.web.agent import describe
from broker.web.assets import Asset
from broker.web.client_address import client_address
from broker.web.cookies import Device, Jar, read_cookies
from broker.web.drawn import Pieces, UsualPage
from broker.web.pages import Chrome, Page
from broker.web.parameters import Pairs, query_of, read_form
from broker.web.reply import Environ

if TYPE_CHECKING:
    from broker.wiring import Runtime

EXTENSION = "homerealm"
RUNTIME = "homerealm.runtime"
"""In the WSGI environment: the Runtime of this request, from its beginning to its end."""
FAILED = "homerealm.failed"
"""In an environ: the visit and the error of a request that took the short way (broker/web/lane.py)."""
T = TypeVar("T")


class once(Generic[T]):
    """`functools.cached_property` without its lock: one request has one thread."""

    def __init__(self, find: Callable[[Any], T]) -> None:
        self._find = find
        self.__doc__ = find.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> once[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> once[T] | T:
        if instance is None:
            return self
        found = instance.__dict__[self._name] = self._find(instance)
        return found


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

    def pieces(self, content: UsualPage, frame: Chrome) -> Pieces: ...

    def duration(self, language: str, seconds: int) -> str: ...

    @property
    def settled(self) -> dict[Any, Any]:
        """What answers.py has found out about a tenant and an app; a new configuration begins with an empty one."""

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
    """Made before every request below a tenant. It knows the request, so that no view has to ask Flask for it."""

    house: House
    """The extension itself: it draws the pages."""
    runtime: Runtime
    tenant: Tenant
    jar: Jar
    query: Pairs
    form: Pairs
    environ: Environ
    """The request as the web server gave it (PEP 3333)."""
    client: Client | None = field(default=None)
    """The app behind this page: decides `form-action`, and whose name is shown."""
    transaction: Transaction | None = field(default=None)
    """The login that this request is a part of, as it was read: for the story of what goes wrong."""

    def belongs_to(self, transaction: Transaction) -> None:
        """From here on this request is about a login: the configuration is the one that it began with.

        What is off by now is off for it, too: it goes on with the earlier tenant within the bounds of the present one.
        Raises `PageExpired` when the app, or the address that it is to be sent back to, is not configured any more.
        """
        live, client = self.tenant, self.tenant.client(transaction.client)
        self.client, self.transaction = client, transaction
        if transaction.config_version == self.runtime.settings.version:
            return
        uri = transaction.request.get("redirect_uri", "")
        if client is not None and not client.internal and not allowed(
            uri, client.redirect_uris, native=client.application_type == "native"
        ):  # fmt: skip
            raise PageExpired(code="client.gone")
        earlier = self.house.at_version(transaction.config_version)
        tenant = earlier.tenant(live.id) if earlier is not None else None
        if earlier is None or tenant is None or tenant == live or tenant.issuer != live.issuer:
            return  # the present configuration it is; the flow refuses what does not fit it
        self.runtime, self.tenant = earlier, tenant.within(live)
        self.client = self.tenant.client(transaction.client) or client

    @once
    def address(self) -> str:
        """Where the request comes from."""
        return client_address(self.environ, self.runtime.settings.trusted_proxies)

    @property
    def base(self) -> str:
        """The path of the issuer; every address of the pages starts with it."""
        return place_of(self.tenant.issuer)[1]

    @once
    def reference(self) -> str:
        """`7K3Q-XW92-4T`: on the page and in the log, for whoever asks what happened."""
        return self.runtime.entropy.reference()

    @once
    def language(self) -> str:
        """`ui_locales`, the cookie, the browser, the tenant: the first that the tenant speaks (PAGES)."""
        offered = self.tenant.languages
        if len(offered) == 1:
            return offered[0]
        wanted = [*self.query.get("ui_locales", "").split(), self.device.language]
        for tag in (*wanted, *_by_weight(self.environ.get("HTTP_ACCEPT_LANGUAGE", "")[:512])):
            for known in offered:
                if tag and (tag == known or tag.partition("-")[0] == known):
                    return known
        return offered[0]

    @once
    def device(self) -> Device:
        return self.jar.device()

    @once
    def how(self) -> Circumstances:
        agent = describe(self.environ.get("HTTP_USER_AGENT", ""))
        return Circumstances(agent, self.reference, self.language, self.address)

    @property
    def origin(self) -> Origin:
        """Where an attempt at a secret comes from, for counting."""
        return Origin(self.address, self.jar.known_device)

    def know_device(self, user: User) -> None:
        """This browser has just signed in to a local account, or set its password."""
        account = Account(user.username or user.email or "", user)
        self.jar.keep_known_device(self.runtime.guard.known_device(self.tenant, account, self.jar.known_device))

    @once
    def browser(self) -> str:
        """Digest of the browser cookie, which is made here when there is none yet."""
        return self.runtime.vault.digest(self.jar.browser())

    @once
    def signed_in(self) -> tuple[Session, User] | None:
        """Who is signed in on this browser, if the session still counts."""
        secret = self.jar.session
        return self.runtime.sign_in.session_of(self.tenant, secret) if secret else None

    @property
    def newcomer(self) -> Visitor:
        """The visitor, as far as opening a login asks: nothing yet happens that would be told in a mail or a list."""
        known = self.signed_in
        return Visitor(self.browser, known[0] if known else None, self.jar.session if known else None)

    @property
    def visitor(self) -> Visitor:
        known = self.signed_in
        return Visitor(self.browser, known[0] if known else None, self.jar.session if known else None, self.how)


@lru_cache(maxsize=4096)
def place_of(issuer: str) -> tuple[str, str]:
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
    if FAILED in request.environ:
        current, error = request.environ[FAILED]
        if current is not None:
            g.homerealm_visit = current
        raise error
    g.homerealm_visit = arrive(
        house(), (values or {}).pop("tenant", ""), request.environ, request.host, lambda: read_form(request)
    )


def arrive(house: House, tenant: str, environ: Environ, host: str, form: Callable[[], Pairs]) -> Visit:
    """Raises `NotFound`, `Misdirected`, `BadRequest`."""
    runtime: Runtime = environ.get(RUNTIME) or house.runtime
    found = runtime.tenant(TenantId(tenant))
    if found is None:
        raise NotFound(code="tenant.unknown")
    if host != place_of(found.issuer)[0]:
        raise Misdirected
    jar = Jar(found.issuer, read_cookies(environ.get("HTTP_COOKIE", "")), runtime.entropy)
    query = Pairs(query_of(environ))
    return Visit(
        house, runtime, found, jar, query, form() if environ["REQUEST_METHOD"] == "POST" else Pairs(()), environ
    )
