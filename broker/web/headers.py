"""The headers of every page. Pure: what goes in decides what comes out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from urllib.parse import urlsplit

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"[a-z0-9._-]+")
_IPV4 = re.compile(r"\d{1,3}(\.\d{1,3}){3}")
_LOOPBACK = "http://127.0.0.1:* http://localhost:*"
_DANGEROUS = frozenset({"javascript", "data", "blob", "filesystem", "about", "file", "vbscript"})


@lru_cache(maxsize=1024)
def _policy(form_targets: frozenset[str], images: frozenset[str]) -> str:
    actions = ["'self'", "https:", *sorted(form_targets)]
    return "; ".join((
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        " ".join(("img-src 'self'", *sorted(images))),
        f"form-action {' '.join(actions)}",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ))  # fmt: skip


def security_headers(
    form_targets: Collection[str] = (), *, images: Collection[str] = (), https: bool = False
) -> Mapping[str, str]:
    """What goes with every page.

    `form_targets` are the places of the client that a POST may end at after its redirects: origins
    (`http://127.0.0.1:7777`) or private schemes (`com.example.app:`), as `Client.origins` has them. `form-action` is
    checked against every hop of the chain behind a form by Chromium and WebKit, so it allows all of https (the app's
    callback may redirect once more, to a place that nobody registered) and these; of loopback every port, since an app
    under development leads on as well (to its front end, or back to the app that it is itself a provider for), and
    the answer stays on the reader's machine. `images` are further origins for
    pictures (a client's `logo_uri`); none, and nothing is asked of third parties. `https` says that the issuer has
    that scheme: HSTS.
    """
    headers = {
        "Content-Security-Policy": _policy(
            frozenset(filter(None, map(_target, form_targets))), frozenset(filter(None, map(_source, images)))
        ),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        # Not no-referrer: addresses of pages hold no secret, and the Origin of a form post must not be null.
        "Referrer-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "Cache-Control": "no-store",
    }
    if https:
        headers["Strict-Transport-Security"] = "max-age=31536000"
    return headers


def _source(place: str) -> str | None:
    """A CSP source for an address, an origin or a scheme; None where `https:` covers it, or where it is not one.

    A redirect URI is configuration or came in by registration: nothing of it but scheme, host and port gets through.
    """
    try:
        parts = urlsplit(place.strip().lower())
        port = parts.port
    except ValueError:
        return None
    scheme = parts.scheme
    if not scheme or scheme == "https" or scheme in _DANGEROUS or not _SCHEME.fullmatch(scheme):
        return None
    if scheme != "http":
        return f"{scheme}:"
    host = parts.hostname or ""
    if ":" in host:
        return "http:"  # CSP has no grammar for IPv6 literals (CSP 3, 2.3.1): [::1] is only reachable by its scheme
    if not _HOST.fullmatch(host):
        return None
    return f"http://{host}:{port}" if port else f"http://{host}"


def _target(place: str) -> str | None:
    """The CSP source of a place that a form may end at."""
    found = _source(place)
    host = urlsplit(found).hostname if found else None
    if host in ("localhost", "127.0.0.1"):
        return _LOOPBACK
    return f"http://{host}:* {_LOOPBACK}" if host and host.startswith("127.") and _IPV4.fullmatch(host) else found
