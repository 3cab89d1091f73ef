"""A browser for tests: cookies with their attributes, redirects, forms. No JavaScript.

It is strict where real ones are and a WSGI test client is not: `Secure`, `SameSite`, `__Host-`, cookies that ignore
ports, and a form's `form-action` policy, which Chromium and WebKit apply to every redirect behind a POST.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

from werkzeug.http import parse_date

from broker.core.ports import Clock
from broker.testing.page import Page, read

if TYPE_CHECKING:
    from broker.testing.world import World

MOST_REDIRECTS = 20


class Hop(NamedTuple):
    """One request of a journey."""

    method: str
    url: str
    status: int


class BlockedByPolicy(Exception):
    """The page's own Content-Security-Policy forbids what a form leads to."""


@dataclass
class Cookie:
    name: str
    value: str
    host: str
    path: str
    secure: bool
    same_site: str
    """`strict`, `lax` or `none`; what says nothing is `lax`, as in Chromium."""
    http_only: bool
    host_only: bool
    expires: datetime | None


def site(url: str) -> str:
    """Scheme and registrable domain, simply: the last two labels, or all of an address or a single name."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    labels = host.split(".")
    name = host if labels[-1].isdigit() or ":" in host else ".".join(labels[-2:])
    return f"{parts.scheme}://{name}"


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@dataclass
class Browser:
    """One person's browser in a World. `page` is what it shows; `trail` is every request that it ever made."""

    world: World
    clock: Clock | None = None
    """Without one, cookies do not expire by time."""
    address: str = "192.0.2.1"
    agent: str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    language: str = "en"
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with every request."""
    cookies: list[Cookie] = field(default_factory=list)
    trail: list[Hop] = field(default_factory=list)
    page: Page = field(default_factory=lambda: Page("about:blank", 0, {}, ""))
    stop_at: tuple[str, ...] = ()
    """Addresses (their beginnings) that are not fetched: the journey ends there, with status 0."""

    def go(self, url: str, *, initiator: str | None = None) -> Page:
        """Type an address, or follow one from elsewhere: `initiator` is the page that it stood on."""
        return self._navigate("GET", url, b"", initiator, None)

    def follow(self, url: str) -> Page:
        """Follow a link of the page that is shown."""
        return self._navigate("GET", urljoin(self.page.url, url), b"", self.page.url, None)

    def post(self, url: str, data: Mapping[str, str] | list[tuple[str, str]], *, initiator: str | None = None) -> Page:
        """Post a form that need not exist; `initiator` is the page that it would stand on (default: the same site)."""
        return self._navigate("POST", url, _encode(data), initiator or url, None)

    def send(
        self, method: str, url: str, *, data: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Page:
        """One request with this browser's cookies; no redirect is followed, and `page` stays what it was."""
        return self._request(method, url, _encode(data or {}), url, headers or {})

    def submit(self, method: str, url: str, fields: list[tuple[str, str]], source: Page) -> Page:
        """Submit a form of a page. `Form.submit` calls this."""
        policy = _form_action(source)
        if method == "GET":
            return self._navigate("GET", f"{url.partition('?')[0]}?{urlencode(fields)}", b"", source.url, policy)
        return self._navigate("POST", url, _encode(fields), source.url, policy)

    def restart(self) -> None:
        """Close and open again: cookies without a lifetime are gone."""
        self.cookies = [cookie for cookie in self.cookies if cookie.expires is not None]
        self.page = Page("about:blank", 0, {}, "")

    def cookie(self, url: str, name: str) -> Cookie | None:
        """A cookie that would be sent to an address, by the beginning of its name."""
        return next((c for c in self.cookies if c.name.startswith(name) and self._fits(c, url, "GET", None)), None)

    def _navigate(
        self, method: str, url: str, body: bytes, initiator: str | None, policy: tuple[str, str] | None
    ) -> Page:
        for _ in range(MOST_REDIRECTS):
            if policy is not None and not _allows(*policy, url):
                raise BlockedByPolicy(f"form-action {policy[1]!r} of {policy[0]} forbids {url}")
            if urlsplit(url).scheme not in ("http", "https") or url.startswith(self.stop_at or ("\0",)):
                self.trail.append(Hop(method, url, 0))
                self.page = Page(url, 0, {}, "")
                return self.page
            page = self._request(method, url, body, initiator, {})
            location = page.headers.get("location")
            if page.status not in (301, 302, 303, 307, 308) or location is None:
                self.page = page
                return page
            here, url = url, urljoin(url, location)
            if "#" not in url and "#" in here:
                url += "#" + here.partition("#")[2]
            if page.status == 303 or (page.status in (301, 302) and method == "POST"):
                method, body = ("HEAD" if method == "HEAD" else "GET"), b""
        raise RuntimeError(f"more than {MOST_REDIRECTS} redirects, the last to {url}")

    def _request(self, method: str, url: str, body: bytes, initiator: str | None, headers: Mapping[str, str]) -> Page:
        url, _, fragment = url.partition("#")
        sent = {"User-Agent": self.agent, "Accept": "text/html,*/*;q=0.8", "Accept-Language": self.language}
        sent |= {
            "Sec-Fetch-Dest": "document",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Site": _relation(initiator, url),
        }
        if body or method == "POST":
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            sent["Origin"] = origin(initiator) if initiator else "null"
        if cookies := [c for c in self.cookies if self._fits(c, url, method, initiator)]:
            cookies.sort(key=lambda c: -len(c.path))
            sent["Cookie"] = "; ".join(f"{c.name}={c.value}" for c in cookies)
        sent |= self.headers | dict(headers)
        answer = self.world.send(method, url, headers=sent, body=body, address=self.address)
        for line in answer.headers.getlist("Set-Cookie"):
            self._keep(line, url)
        self.trail.append(Hop(method, url, answer.status_code))
        received = {key.lower(): value for key, value in answer.headers.items()}
        shown = f"{url}#{fragment}" if fragment else url
        page: Page = read(
            shown,
            answer.status_code,
            received,
            answer.get_data().decode("utf-8", "replace"),
            lambda m, u, fields: self.submit(m, u, fields, page),
            lambda u: self._navigate("GET", u, b"", page.url, None),
        )
        return page

    def _keep(self, line: str, url: str) -> None:
        """Store a Set-Cookie line, or refuse it as RFC 6265bis 5.7 does."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        for name, morsel in SimpleCookie(line).items():
            domain = morsel["domain"].lstrip(".").lower()
            if domain and domain != host and not host.endswith(f".{domain}"):
                return
            secure = bool(morsel["secure"])
            path = morsel["path"] if morsel["path"].startswith("/") else parts.path.rpartition("/")[0] or "/"
            if secure and parts.scheme != "https":
                return
            if name.startswith("__Secure-") and not secure:
                return
            if name.startswith("__Host-") and (not secure or domain or morsel["path"] != "/"):
                return
            same_site = (morsel["samesite"] or "lax").lower()
            if same_site == "none" and not secure:
                return
            expires, gone = self._expiry(morsel["max-age"], morsel["expires"])
            where = domain or host
            self.cookies = [c for c in self.cookies if (c.name, c.host, c.path) != (name, where, path)]
            if not gone:
                self.cookies.append(
                    Cookie(
                        name, morsel.coded_value, where, path, secure, same_site,
                        bool(morsel["httponly"]), not domain, expires,
                    )
                )  # fmt: skip

    def _expiry(self, max_age: str, expires: str) -> tuple[datetime | None, bool]:
        now = self.clock.now() if self.clock else None
        if max_age:
            if int(max_age) <= 0:
                return None, True
            return datetime.fromtimestamp((now.timestamp() if now else 4e9) + int(max_age), UTC), False
        if expires and (when := parse_date(expires)) is not None:
            return when, when <= (now or datetime.fromtimestamp(1, UTC))
        return None, False

    def _fits(self, cookie: Cookie, url: str, method: str, initiator: str | None) -> bool:
        parts = urlsplit(url)
        host, path = parts.hostname or "", parts.path or "/"
        if host != cookie.host and (cookie.host_only or not host.endswith(f".{cookie.host}")):
            return False
        if not (path == cookie.path or path.startswith(cookie.path.rstrip("/") + "/")):
            return False
        if cookie.secure and parts.scheme != "https":
            return False
        if cookie.expires and self.clock and cookie.expires <= self.clock.now():
            return False
        if initiator is None or site(initiator) == site(url) or cookie.same_site == "none":
            return True
        return cookie.same_site == "lax" and method in ("GET", "HEAD")


def _encode(data: Mapping[str, str] | list[tuple[str, str]]) -> bytes:
    return urlencode(list(data.items()) if isinstance(data, Mapping) else data).encode()


def _relation(initiator: str | None, url: str) -> str:
    """Sec-Fetch-Site."""
    if initiator is None:
        return "none"
    if origin(initiator) == origin(url):
        return "same-origin"
    return "same-site" if site(initiator) == site(url) else "cross-site"


def _form_action(page: Page) -> tuple[str, str] | None:
    """The page's address and its form-action source list."""
    for directive in page.headers.get("content-security-policy", "").split(";"):
        name, _, sources = directive.strip().partition(" ")
        if name.lower() == "form-action":
            return page.url, sources
    return None


def _allows(page: str, sources: str, url: str) -> bool:
    """Whether a CSP source list allows an address: 'self', schemes, origins, hosts with a wildcard."""
    parts = urlsplit(url)
    for source in sources.split():
        if source == "'self'":
            if origin(url) == origin(page):
                return True
        elif source.endswith(":"):
            if f"{parts.scheme}:" == source or (source == "http:" and parts.scheme == "https"):
                return True
        elif "://" in source:
            wanted = urlsplit(source)
            if wanted.scheme == parts.scheme and _host_fits(wanted.netloc, parts.netloc):
                return True
        elif _host_fits(source, parts.netloc):
            return True
    return False


def _host_fits(pattern: str, netloc: str) -> bool:
    if pattern.startswith("*."):
        return netloc.endswith(pattern[1:])
    if pattern.endswith(":*"):
        return netloc.partition(":")[0] == pattern[:-2]
    return pattern == netloc
