"""What a connection gets: all that it may touch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from broker.core.ports.sql import Database
from broker.core.ports.world import Clock, Entropy, Fetcher, Hasher
from broker.core.tenant import Tenant


class Toolbox(Protocol):
    """All that a connection may touch. It sees no web framework, no configuration but its own, no other tenant."""

    @property
    def fetcher(self) -> Fetcher: ...
    @property
    def verifier(self) -> TokenVerifier: ...
    @property
    def upstream(self) -> UpstreamClients: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def entropy(self) -> Entropy: ...
    @property
    def hasher(self) -> Hasher: ...
    @property
    def database(self) -> Database: ...
    @property
    def tenant(self) -> Tenant: ...


class TokenVerifier(Protocol):
    """Verifies what upstreams sign (joserfc). Algorithms, issuer, audience and key source come from our side."""

    def verify(
        self,
        token: str,
        *,
        jwks_uri: str,
        issuer: str,
        audience: str,
        algorithms: Sequence[str] = ("RS256", "ES256", "PS256", "EdDSA"),
    ) -> Mapping[str, Any]:
        """The claims, checked for signature, iss, aud/azp, exp, iat, nbf (30 s leeway).

        Keys are cached by address; an unknown kid refetches at most once per five minutes.
        Raises `ConnectionFailed("connection.invalid")`.
        """


class UpstreamClients(Protocol):
    """Authlib's stateless OAuth 2.0 client on the Fetcher's transport."""

    def authorization_url(
        self,
        endpoint: str,
        *,
        client_id: str,
        redirect_uri: str,
        scope: str,
        state: str,
        code_verifier: str | None,
        extra: Mapping[str, str],
    ) -> str: ...

    def exchange(
        self,
        endpoint: str,
        *,
        client_id: str,
        client_secret: str | None,
        auth_method: str,
        code: str,
        redirect_uri: str,
        code_verifier: str | None,
    ) -> Mapping[str, Any]:
        """The token answer. Raises `ConnectionFailed`."""
