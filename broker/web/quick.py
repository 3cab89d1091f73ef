"""Which requests need nothing but the key-value store and reads of the database.

The web server answers those where they arrive, without handing them to a thread (serving/gateway.py). What hashes a
password, writes to the database or asks another server is not among them. A mistake here costs time, never safety:
the server notices when such a request holds it up.
"""

from __future__ import annotations

_PLACES = {
    "GET": frozenset(
        ["authorize", "continue", "login", "password", "account", "must-change", "consent", "forgot", "signup", "done",
         "change-password", "userinfo", "jwks", "openid-configuration", "oauth-authorization-server", "healthz"]
    ),
    "POST": frozenset(["token", "userinfo", "introspect"]),
}  # fmt: skip
"""By the last part of the path: tenants lie below `/t/<tenant>`, or at the root of a host of their own."""

_GUESSED = ("/login", "/login/password", "/forgot", "/signup")
"""Forms for strangers, in which passwords are guessed and mails are asked for."""


def guessed(method: str, path: str) -> bool:
    """Whether somebody may send it in masses: not what an app sends, and nothing of who is signed in."""
    return method == "POST" and path.endswith(_GUESSED)


def quick(method: str, path: str) -> bool:
    """Whether to answer it at once."""
    places = _PLACES.get("GET" if method == "HEAD" else method)
    return places is not None and (path.rpartition("/")[2] in places or "/static/" in path)
