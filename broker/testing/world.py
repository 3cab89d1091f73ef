"""A world for tests without a network: a table of host -> WSGI app.

The browser and the broker's own outgoing requests resolve names in the same table, so that a relying party, the
broker and an upstream talk to each other in one process. A host that is not in the table raises: nothing leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from werkzeug.test import Client, TestResponse
from werkzeug.wrappers import Response as WebResponse

from broker.core.errors import ConnectionFailed
from broker.core.ports import Response
from broker.testing.browser import BlockedByPolicy, Browser, Hop
from broker.testing.page import Form, Link, Page

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["BlockedByPolicy", "Browser", "Form", "Hop", "Link", "Page", "UnknownHost", "World", "WorldFetcher"]


class UnknownHost(LookupError):
    """An address outside this world. A test that sees this would have used the network."""


@dataclass
class World:
    """Hosts by name, with the port where an address has one: `login.acme.test`, `localhost:8000`."""

    hosts: dict[str, WSGIApplication] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    """Hosts that exist and do not answer: a browser gets a 502, a fetcher its typed error."""

    def __setitem__(self, host: str, app: WSGIApplication) -> None:
        self.hosts[host] = app

    def __getitem__(self, host: str) -> WSGIApplication:
        try:
            return self.hosts[host]
        except KeyError:
            raise UnknownHost(f"no such host in this world: {host}; there are {', '.join(self.hosts)}") from None

    def __contains__(self, host: str) -> bool:
        return host in self.hosts

    def __iter__(self) -> Iterator[str]:
        return iter(self.hosts)

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        address: str = "192.0.2.1",
    ) -> TestResponse:
        """One request, one answer; no cookies kept, no redirect followed. `address` is the sender's IP address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise UnknownHost(f"not an http address: {url}")
        app = self[parts.netloc]
        if parts.netloc in self.down:
            app = WebResponse("nobody answers", 502)
        return Client(app, use_cookies=False).open(
            parts.path or "/",
            method=method,
            query_string=parts.query,
            base_url=f"{parts.scheme}://{parts.netloc}",
            headers=dict(headers or {}),
            data=body,
            environ_overrides={"REMOTE_ADDR": address},
        )


@dataclass
class WorldFetcher:
    """The Fetcher port on a World. It keeps a list of what was asked, as (method, address without query)."""

    world: World
    asked: list[tuple[str, str]] = field(default_factory=list)

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Response:
        return self._answer("GET", url, headers or {}, b"")

    def post(self, url: str, data: Mapping[str, str], *, headers: Mapping[str, str] | None = None) -> Response:
        form = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        return self._answer("POST", url, form, urlencode(data).encode())

    def _answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        self.asked.append((method, url.partition("?")[0]))
        if urlsplit(url).netloc in self.world.down:
            raise ConnectionFailed(f"{url}: no answer", code="connection.unavailable")
        answer = self.world.send(method, url, headers=headers, body=body, address="192.0.2.100")
        return Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, answer.get_data())
