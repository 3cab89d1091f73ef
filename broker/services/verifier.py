"""What upstreams sign is verified here, by another implementation than the one that signs what is ours (joserfc)."""

from __future__ import annotations

import json
import math
import threading
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from broker.core.errors import ConnectionFailed
from broker.core.ports import Clock, Fetcher

if TYPE_CHECKING:
    from joserfc.jwk import Key

LEEWAY = timedelta(seconds=30)
REFETCH = timedelta(minutes=5)
"""An unknown kid is an attacker's cheapest way to make us call somebody; so not more often than this."""
FRESH = timedelta(hours=1)
STALE = timedelta(hours=6)
"""How long known keys are used while their address does not answer."""
OLDEST = timedelta(days=1)
LONGEST = 64_000
"""Characters of a token."""
_MOST_KEYS = 100

# What a key must be for an algorithm (RFC 7518 3.1, RFC 8037 3.1): a public key is never taken for a shared secret.
_KEY_TYPES: Mapping[str, tuple[str, str | None]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
_RSA_BITS = range(2048, 8193)


_Keys: TypeAlias = "tuple[tuple[Mapping[str, Any], Key], ...]"


@dataclass(slots=True)
class _Shelf:
    """The keys of one address. The lock is held while they are fetched, so that many who wait make one request."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    keys: _Keys = ()
    fetched_at: datetime | None = None
    tried_at: datetime | None = None
    asked_at: datetime | None = None
    """When an unknown kid last made us ask again."""


class UpstreamVerifier:
    """Implements `broker.core.ports.TokenVerifier`. One for the process."""

    def __init__(self, fetcher: Fetcher, clock: Clock) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._shelves: dict[str, _Shelf] = {}
        self._opening = threading.Lock()

    def verify(
        self,
        token: str,
        *,
        jwks_uri: str,
        issuer: str,
        audience: str,
        algorithms: Sequence[str] = ("RS256", "ES256", "PS256", "EdDSA"),
    ) -> Mapping[str, Any]:
        """The claims of an ID token (OpenID Connect Core 3.1.3.7). Raises `ConnectionFailed`.

        `connection.invalid` for a token that cannot be trusted, `connection.unavailable` when the keys cannot be had,
        `connection.misconfigured` for algorithms that need a shared secret or no key at all.
        """
        for name in algorithms:
            if name not in _KEY_TYPES:
                raise ConnectionFailed(f"algorithm {name} is not for upstream tokens", code="connection.misconfigured")
        algorithm, kid = _read_header(token, algorithms)
        payload = self._check_signature(token, jwks_uri, algorithm, kid)
        claims = _read_object(payload, "payload")
        _check_claims(claims, issuer, audience, self._clock.now())
        return claims

    def _check_signature(self, token: str, jwks_uri: str, algorithm: str, kid: str | None) -> bytes:
        shelf = self._shelf(jwks_uri)
        for keys in self._attempts(shelf, jwks_uri):
            candidates = [key for facts, key in keys if _fits(facts, algorithm, kid)]
            if kid is None and len(candidates) > 1:
                raise _invalid("no kid, and more than one key that it could mean")
            for key in candidates:
                payload = _verified(token, key, algorithm)
                if payload is not None:
                    return payload
        raise _invalid(f"no key of {jwks_uri} verifies it (alg {algorithm}, kid {kid!r})")

    def _shelf(self, jwks_uri: str) -> _Shelf:
        with self._opening:
            return self._shelves.setdefault(jwks_uri, _Shelf())

    def _attempts(self, shelf: _Shelf, jwks_uri: str) -> Iterator[_Keys]:
        """The keys that are known, and then, if it is time to ask again, those of now. Raises `ConnectionFailed`."""
        now = self._clock.now()
        with shelf.lock:
            self._freshen(shelf, jwks_uri, now)
            known = shelf.keys
        yield known
        with shelf.lock:
            if shelf.keys is known and (shelf.asked_at is None or now - shelf.asked_at >= REFETCH):
                shelf.asked_at = now
                self._fetch(shelf, jwks_uri, now)
            newer = shelf.keys
        if newer is not known:
            yield newer

    def _freshen(self, shelf: _Shelf, jwks_uri: str, now: datetime) -> None:
        if shelf.fetched_at is None or shelf.tried_at is None:
            self._fetch(shelf, jwks_uri, now)
            return
        age = now - shelf.fetched_at
        if age > FRESH and now - shelf.tried_at >= REFETCH:
            try:
                self._fetch(shelf, jwks_uri, now)
            except ConnectionFailed:
                if age > STALE:
                    raise
        elif age > STALE:
            raise ConnectionFailed(f"the keys of {jwks_uri} are too old and cannot be had")

    def _fetch(self, shelf: _Shelf, jwks_uri: str, now: datetime) -> None:
        shelf.tried_at = now
        shelf.keys = self._download(jwks_uri)
        shelf.fetched_at = now

    def _download(self, jwks_uri: str) -> _Keys:
        answer = self._fetcher.get(jwks_uri, headers={"Accept": "application/jwk-set+json, application/json"})
        if answer.status != 200:
            raise ConnectionFailed(f"{jwks_uri} answered {answer.status}")
        listed = _read_object(answer.body, f"{jwks_uri}").get("keys")
        if not isinstance(listed, list):
            raise _invalid(f"{jwks_uri} holds no list of keys")
        found = []
        for facts in listed[:_MOST_KEYS]:
            key = _import(facts)
            if key is not None:
                found.append((facts, key))
        return tuple(found)


def _verified(token: str, key: Key, algorithm: str) -> bytes | None:
    """The payload, if this key signed it by this algorithm."""
    from joserfc import jws
    from joserfc.errors import JoseError

    class OneAlgorithm(jws.JWSRegistry):
        """joserfc's own registry; but it warns of the name EdDSA, which providers still use."""

        max_header_length = 8_192
        max_payload_length = LONGEST

        def get_alg(self, name: str) -> Any:
            if name != algorithm:
                raise JoseError(f"algorithm {name} is not allowed")
            return self.algorithms[name]

    try:
        verified = jws.deserialize_compact(token, key, registry=OneAlgorithm(strict_check_header=False))
    except (JoseError, ValueError):
        return None
    return verified.payload


def _import(facts: Any) -> Key | None:
    """A public signing key; None for what is not one, or not one that we understand: other keys go on working."""
    from joserfc.errors import JoseError
    from joserfc.jwk import JWKRegistry

    if not isinstance(facts, dict) or facts.get("use", "sig") != "sig":
        return None
    kind = facts.get("kty")
    if (kind, None) not in _KEY_TYPES.values() and (kind, facts.get("crv")) not in _KEY_TYPES.values():
        return None
    try:
        if kind == "RSA" and _bits(facts["n"]) not in _RSA_BITS:
            return None
        # The members of a key and nothing beside them: "key_ops" or "d" must not change what it is.
        members = ("kty", "n", "e") if kind == "RSA" else ("kty", "crv", "x", "y")
        return JWKRegistry.import_key({name: facts[name] for name in members if name in facts})
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _bits(number: str) -> int:
    """The size of a base64url integer."""
    return int.from_bytes(urlsafe_b64decode(number + "=" * (-len(number) % 4))).bit_length()


def _fits(facts: Mapping[str, Any], algorithm: str, kid: str | None) -> bool:
    kind, curve = _KEY_TYPES[algorithm]
    return (
        facts.get("kty") == kind
        and (curve is None or facts.get("crv") == curve)
        and facts.get("alg", algorithm) in ((algorithm, "EdDSA", "Ed25519") if kind == "OKP" else (algorithm,))
        and (kid is None or facts.get("kid") == kid)
    )


def _read_header(token: object, algorithms: Sequence[str]) -> tuple[str, str | None]:
    """Its algorithm and its key's id, both only used to choose among what we allow."""
    if not isinstance(token, str) or len(token) > LONGEST or not token.isascii() or token.count(".") != 2:
        raise _invalid("not a signed token")
    head = token.partition(".")[0]
    try:
        raw = urlsafe_b64decode(head + "=" * (-len(head) % 4))
    except ValueError:
        raise _invalid("not a signed token") from None
    header = _read_object(raw, "header")
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise _invalid(f"algorithm {algorithm!r} is not among {', '.join(algorithms)}")
    if kid is not None and not isinstance(kid, str):
        raise _invalid("its kid is no text")
    # Tokens for another use (RFC 8725 3.11): an access token or a logout token is no ID token.
    if not isinstance(kind, str) or kind.lower().removeprefix("application/").endswith("+jwt"):
        raise _invalid(f"a token of type {kind!r}")
    if "crit" in header or "b64" in header:
        raise _invalid("it demands an extension that we do not have (RFC 7515 4.1.11)")
    return algorithm, kid


def _read_object(raw: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise _invalid(f"its {what} is no JSON") from None
    if not isinstance(found, dict):
        raise _invalid(f"its {what} is no JSON object")
    return found


def _check_claims(claims: Mapping[str, Any], issuer: str, audience: str, now: datetime) -> None:
    if claims.get("iss") != issuer:
        raise _invalid(f"iss is {claims.get('iss')!r}, not {issuer!r}")
    audiences = claims.get("aud")
    if isinstance(audiences, str):
        audiences = [audiences]
    if not isinstance(audiences, list) or not all(isinstance(a, str) for a in audiences) or audience not in audiences:
        raise _invalid(f"aud is {audiences!r}, not {audience!r}")
    authorized = claims.get("azp")
    if (authorized is not None or len(set(audiences)) > 1) and authorized != audience:
        raise _invalid(f"azp is {authorized!r}, not {audience!r}")
    moment, leeway = now.timestamp(), LEEWAY.total_seconds()
    if not moment < _time(claims, "exp") + leeway:
        raise _invalid("it has expired")
    issued = _time(claims, "iat")
    if not moment - OLDEST.total_seconds() <= issued <= moment + leeway:
        raise _invalid("iat is not of now")
    if "nbf" in claims and not _time(claims, "nbf") <= moment + leeway:
        raise _invalid("it is not valid yet")


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    # A JSON parser takes NaN, Infinity and true for numbers; every comparison with NaN is false.
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15 or math.isnan(value):
        raise _invalid(f"{name} is {str(value)[:40]!r}, which is no time")
    return value


def _invalid(why: str) -> ConnectionFailed:
    return ConnectionFailed(f"token refused: {why[:500]}", code="connection.invalid")
