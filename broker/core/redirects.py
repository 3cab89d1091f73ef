"""Where a browser may be sent. Byte-equal comparison, with the one exception that RFC 8252 7.3 makes."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode, urlsplit

from broker.core.errors import BadRequest

_LOOPBACK_LITERALS = ("127.0.0.1", "[::1]")


def allowed(uri: str, registered: Iterable[str], *, native: bool = False) -> bool:
    """Whether a redirect URI is one of the registered ones (OAuth 2.0 Security BCP, RFC 9700 2.1).

    For native apps the port of a loopback literal may differ (RFC 8252 7.3); never that of `localhost`.
    """
    for known in registered:
        if uri == known:
            return True
        if native and _loopback_equal(uri, known):
            return True
    return False


def _loopback_equal(uri: str, known: str) -> bool:
    for literal in _LOOPBACK_LITERALS:
        prefix = f"http://{literal}"
        if uri.startswith(prefix) and known.startswith(prefix):
            rest, known_rest = uri[len(prefix) :], known[len(prefix) :]
            return _strip_port(rest) == _strip_port(known_rest) and _strip_port(rest) is not None
    return False


def _strip_port(rest: str) -> str | None:
    """What follows the port; None when it is no port."""
    if not rest.startswith(":"):
        return rest if rest.startswith("/") or not rest else None
    digits = len(rest[1:]) - len(rest[1:].lstrip("0123456789"))
    after = rest[1 + digits :]
    return after if 0 < digits <= 5 and (not after or after.startswith("/")) else None


def acceptable(uri: str) -> str | None:
    """Why a URI cannot be registered as a redirect URI, in words; None when it can (RFC 6749 3.1.2, RFC 8252)."""
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return "is not a URI"
    if not uri.isascii() or any(c <= " " or c in '\\"<>`{}|^\x7f' for c in uri):
        return "has characters that a URI cannot have"
    if not parts.scheme:
        return "is not absolute"
    if "#" in uri:
        return "has a fragment"
    if parts.scheme in ("javascript", "data", "vbscript", "file", "blob", "about"):
        return f"has the scheme {parts.scheme}"
    if parts.scheme in ("http", "https"):
        if not parts.hostname:
            return "has no host"
        if parts.username is not None or parts.password is not None:
            return "has a user name in it"
        if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            return "is http, which only loopback addresses may be"
    elif "." not in parts.scheme:
        return "has a private scheme that is not a reversed domain name (RFC 8252 7.1), such as com.example.app"
    return None


def extend(uri: str, parameters: Iterable[tuple[str, str]]) -> str:
    """The URI with parameters added to its query, which is kept as it is."""
    query = urlencode(list(parameters))
    if not query:
        return uri
    if "#" in uri:
        raise BadRequest("a redirect URI has no fragment")
    return f"{uri}{'&' if '?' in uri else '?'}{query}"


def local_path(value: str | None, default: str) -> str:
    """A path on our own origin, or the default: no scheme, no host, no backslash tricks."""
    if (
        value
        and value.startswith("/")
        and not value.startswith(("//", "/\\"))
        and "\\" not in value
        and value.isprintable()
    ):
        return value
    return default
