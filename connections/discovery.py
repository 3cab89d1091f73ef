"""A provider's own description of itself (OpenID Connect Discovery 1.0), fetched, compared and kept for an hour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from broker.sdk import Clock, ConnectionFailed, Fetcher

FRESH = timedelta(hours=1)
STALE = timedelta(days=1)
"""How long an older description serves while the provider does not answer."""
PATIENCE = timedelta(minutes=1)
"""How long the older one serves before the provider is asked again: people should not wait for a dead one."""
_ADDRESSES = ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint")


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """What we use of it. Nothing else in it, its algorithms least of all, decides anything here."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    names_itself: bool = False
    """It puts `iss` into every authorization response (RFC 9207), so that one without it is not from there."""
    auth_methods: tuple[str, ...] | None = None


class Discovery:
    """The description of one provider. Safe over threads: what is kept is replaced whole."""

    def __init__(self, fetcher: Fetcher, clock: Clock, address: str, issuer: str) -> None:
        """`issuer` is what the document must say, byte for byte."""
        self._fetcher = fetcher
        self._clock = clock
        self._address = address
        self._issuer = issuer
        self._kept: tuple[datetime, ProviderMetadata] | None = None
        self._failed_at: datetime | None = None

    def metadata(self) -> ProviderMetadata:
        """Raises `ConnectionFailed`: `unavailable` without an answer, `misconfigured` for one of another issuer."""
        now, kept = self._clock.now(), self._kept
        if kept is None:
            return self._renew(now)
        age = now - kept[0]
        if age < FRESH or (age < STALE and self._failed_at is not None and now - self._failed_at < PATIENCE):
            return kept[1]
        try:
            return self._renew(now)
        except ConnectionFailed as failure:
            if failure.code != "connection.unavailable" or age >= STALE:
                raise
            self._failed_at = now
            return kept[1]

    def _renew(self, now: datetime) -> ProviderMetadata:
        found = self._fetch()
        self._kept, self._failed_at = (now, found), None
        return found

    def _fetch(self) -> ProviderMetadata:
        answer = self._fetcher.get(self._address, headers={"Accept": "application/json"})
        if answer.status != 200:
            code = "connection.misconfigured" if answer.status == 404 else "connection.unavailable"
            raise ConnectionFailed(f"{self._address} answered {answer.status}", code=code)
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ConnectionFailed(f"{self._address} is no JSON object", code="connection.unavailable")
        if document.get("issuer") != self._issuer:
            # Discovery 4.3. Another issuer's description would make us take its tokens for this one's.
            said = str(document.get("issuer"))[:200]
            raise ConnectionFailed(
                f"{self._address} describes {said!r}, not {self._issuer!r}", code="connection.misconfigured"
            )
        return self._read(document)

    def _read(self, document: Mapping[str, Any]) -> ProviderMetadata:
        found = {name: self._usable(name, document.get(name)) for name in _ADDRESSES}
        methods = document.get("token_endpoint_auth_methods_supported")
        return ProviderMetadata(
            authorization_endpoint=self._required("authorization_endpoint", found),
            token_endpoint=self._required("token_endpoint", found),
            jwks_uri=self._required("jwks_uri", found),
            userinfo_endpoint=found["userinfo_endpoint"],
            end_session_endpoint=found["end_session_endpoint"],
            names_itself=document.get("authorization_response_iss_parameter_supported") is True,
            auth_methods=tuple(map(str, methods)) if isinstance(methods, list) else None,
        )

    def _required(self, name: str, found: Mapping[str, str | None]) -> str:
        value = found[name]
        if value is None:
            raise ConnectionFailed(f"{self._address} has no usable {name}", code="connection.misconfigured")
        return value

    def _usable(self, name: str, value: Any) -> str | None:
        """An absolute https address; http only where the provider itself is configured with http."""
        if value is None or value == "":
            return None
        if isinstance(value, str) and value.isascii() and value.isprintable() and " " not in value and "#" not in value:
            try:
                parts = urlsplit(value)
            except ValueError:
                parts = urlsplit("")
            schemes = ("https", urlsplit(self._address).scheme)
            if parts.scheme in schemes and parts.hostname and "@" not in parts.netloc:
                return value
        raise ConnectionFailed(f"{self._address} has an unusable {name}", code="connection.misconfigured")


def overlaid(found: ProviderMetadata, **given: str | None) -> ProviderMetadata:
    """With the addresses that the tenant gave in the place of those that were found."""
    return replace(found, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
