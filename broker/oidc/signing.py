"""The keys of a tenant: made on first use, rotated, parsed once, and kept.

What we sign is signed and verified by PyJWT with parsed key objects; a PEM parsed on every call would be a hundred
times slower. Keys lie sealed in the database; every process reads them again after `REFRESH`, or when it meets a kid
that it does not know.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from string import ascii_letters, digits
from threading import Lock
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from broker.core.events import Action, Event
from broker.core.ports import Clock, Database, SigningKey
from broker.core.tenant import Tenant
from broker.core.values import Actor

ALGORITHMS = ("RS256", "ES256")
"""RS256 is what every relying party knows (OIDC Core 15.1); ES256 is eight times cheaper to make."""
REFRESH = timedelta(seconds=30)
UNKNOWN_KID = timedelta(seconds=1)
"""An unknown kid reads the keys again, at most this often: anybody can invent one."""
OVERLAP = timedelta(hours=1)
"""A new key is published this long before it signs. Longer than a JWKS may be cached."""
PERIOD = timedelta(days=90)
RETENTION = timedelta(days=30)
"""A retired key stays published this long: what it signed is still shown to us as `id_token_hint`."""
MAX_TOKEN = 8 * 1024
"""Characters of a token that is looked at at all."""

MAX_HEADER = 512
REMEMBERED = 2048
"""Tokens whose signature is not looked at again; up to twice as many for a while."""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Parsed:
    key: SigningKey
    private: PrivateKey
    public: PublicKey
    jwk: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ring:
    """The keys of one tenant at one moment."""

    loaded_at: datetime
    by_kid: Mapping[str, Parsed]
    newest_first: tuple[Parsed, ...]
    """Those that sign, now or later."""
    jwks: bytes

    @property
    def keys(self) -> list[SigningKey]:
        return [one.key for one in self.by_kid.values()]

    def signer(self, algorithm: str, now: datetime) -> Parsed | None:
        """The newest key that is active."""
        for one in self.newest_first:
            if one.key.algorithm == algorithm and one.key.active_from <= now:
                return one
        return None


class GoodSignatures:
    """Digests of tokens whose signature was found good, or made here, each with the key that it is of.

    It spares a calculation whose result cannot change: these very bytes, this very key. Nothing else is remembered:
    whether the key is still ours, the token's time, revocation, grant, person and client are looked at at every use
    (docs/decisions/remembered-signatures.md).
    """

    def __init__(self, size: int = REMEMBERED) -> None:
        self._size = size
        self._young: dict[bytes, PublicKey] = {}
        self._old: dict[bytes, PublicKey] = {}

    def has(self, token: bytes, key: PublicKey) -> bool:
        digest = hashlib.sha256(token).digest()
        return self._young.get(digest) is key or self._old.get(digest) is key

    def add(self, token: bytes, key: PublicKey) -> None:
        if len(self._young) >= self._size:
            self._old, self._young = self._young, {}
        self._young[hashlib.sha256(token).digest()] = key


class Signing:
    """Signs and verifies what is ours: ID tokens and access tokens."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._rings: dict[str, Ring] = {}
        self._making = Lock()
        self._good = GoodSignatures()

    # --- Using the keys -----------------------------------------------------------------------------------------

    def sign(
        self, tenant: str, algorithm: str, claims: Mapping[str, Any], typ: str = "JWT", *, comes_back: bool = False
    ) -> str:
        """A signed token with the `kid` in its header. Raises `ValueError` for an algorithm that we have no keys of.

        `comes_back`: it will be shown to us soon, so its signature is remembered as good.
        """
        signer = self._signer(tenant, algorithm)
        # What PyJWT's `encode` does, without its checks of headers and claims, which are ours.
        header = _header(algorithm, signer.key.kid, typ)
        payload = urlsafe_b64encode(_compact(claims).encode()).rstrip(b"=")
        signature = _ALGORITHMS[algorithm].sign(header + b"." + payload, signer.private)
        token = b".".join((header, payload, urlsafe_b64encode(signature).rstrip(b"=")))
        if comes_back:
            self._good.add(token, signer.public)
        return token.decode("ascii")

    def verify(self, tenant: str, token: str, typ: str) -> Mapping[str, Any] | None:
        """The claims of a token that this tenant signed, or None. Its times are the caller's business.

        The algorithm is the key's, never the header's choice, and the type must be the one that is expected: an
        access token is no ID token (RFC 8725 3.11). That the header is, byte for byte, the one that we write says
        both, and that there is nothing else in it.
        """
        if len(token) > MAX_TOKEN or not token.isascii():
            return None
        raw = token.encode("ascii")
        signed, _, signature = raw.rpartition(b".")
        header, _, payload = signed.partition(b".")
        try:
            found = self._by_kid(tenant, _kid(header))
            if found is None or header != _header(found.key.algorithm, found.key.kid, typ):
                return None
            if not self._good.has(raw, found.public):
                if not _ALGORITHMS[found.key.algorithm].verify(signed, found.public, _decoded(signature)):
                    return None
                self._good.add(raw, found.public)
            claims = json.loads(_decoded(payload).decode())
        except (ValueError, TypeError, RecursionError):
            return None
        return claims if isinstance(claims, dict) else None

    def public_jwks(self, tenant: str) -> bytes:
        """The JWK set (RFC 7517): every key that signs, will sign, or signed what may still be shown to us."""
        return self._complete(tenant).jwks

    def _signer(self, tenant: str, algorithm: str) -> Parsed:
        if algorithm not in ALGORITHMS:
            raise ValueError(f"no keys for {algorithm}")
        signer = self._ring(tenant).signer(algorithm, self._clock.now())
        if signer is None:
            signer = self._complete(tenant).signer(algorithm, self._clock.now())
        if signer is None:
            raise ValueError(f"no active key for {algorithm}")
        return signer

    def _by_kid(self, tenant: str, kid: object) -> Parsed | None:
        if not isinstance(kid, str):
            return None
        ring = self._ring(tenant)
        if kid not in ring.by_kid and self._clock.now() - ring.loaded_at >= UNKNOWN_KID:
            ring = self._load(tenant)
        return ring.by_kid.get(kid)

    def _ring(self, tenant: str) -> Ring:
        ring = self._rings.get(tenant)
        age = self._clock.now() - ring.loaded_at if ring is not None else REFRESH
        return self._load(tenant) if ring is None or not timedelta() <= age < REFRESH else ring

    def _load(self, tenant: str) -> Ring:
        with self._database.reading() as work:
            keys = work.keys.of(tenant)
        old = self._rings.get(tenant)
        known = old.by_kid if old is not None else {}
        by_kid = {key.kid: _parse(key, known.get(key.kid)) for key in keys}
        jwks = json.dumps({"keys": [dict(one.jwk) for one in by_kid.values()]}, separators=(",", ":")).encode()
        signing = [one for one in by_kid.values() if one.key.retired_at is None]
        signing.sort(key=lambda one: (one.key.active_from, one.key.kid), reverse=True)
        ring = self._rings[tenant] = Ring(self._clock.now(), by_kid, tuple(signing), jwks)
        return ring

    # --- Making and rotating ------------------------------------------------------------------------------------

    def _complete(self, tenant: str) -> Ring:
        """The keys, with the first ones made where there are none yet."""
        ring = self._ring(tenant)
        if all(ring.signer(algorithm, self._clock.now()) for algorithm in ALGORITHMS):
            return ring
        with self._making:
            ring = self._load(tenant)
            for algorithm in ALGORITHMS:
                if ring.signer(algorithm, self._clock.now()) is None:
                    self._add(tenant, algorithm, _newest(ring.keys, algorithm), self._clock.now())
            return self._load(tenant)

    def _add(self, tenant: str, algorithm: str, before: SigningKey | None, active_from: datetime) -> SigningKey | None:
        """Add the successor of a key; None when another process was faster.

        The kid follows from its predecessor's, so two processes that do this at the same time make the same kid, and
        the database keeps one of them.
        """
        kid = self._kid(tenant, algorithm, before)
        key = SigningKey(kid, tenant, algorithm, _generate(algorithm), self._clock.now(), active_from)
        try:
            with self._database.writing() as work:
                if any(one.kid == kid for one in work.keys.of(tenant)):
                    return None
                work.keys.add(key)
        except Exception:
            # Lost the race on an engine that lets both transactions begin; anything else is an error.
            if kid in self._load(tenant).by_kid:
                return None
            raise
        return key

    def _kid(self, tenant: str, algorithm: str, before: SigningKey | None) -> str:
        seed = "\n".join([self._database.marker(), tenant, algorithm, before.kid if before else ""])
        return urlsafe_b64encode(hashlib.sha256(seed.encode()).digest()[:12]).decode("ascii")

    def keys(self, tenant: str) -> list[SigningKey]:
        """Oldest first, for the command line. Makes the first ones."""
        return self._complete(tenant).keys

    def rotate(self, tenant: Tenant, by: Actor, *, at_once: bool = False) -> list[SigningKey]:
        """Add a key per algorithm: published now, signing after `OVERLAP`. Returns the new ones.

        `at_once` is for a key that leaked: the new one signs now, and the old ones are gone; every ID token and
        access token made before is refused from then on.
        """
        self._complete(tenant.id)
        now = self._clock.now()
        old = self._load(tenant.id).keys
        begin = now if at_once else now + OVERLAP
        made = [self._add(tenant.id, algorithm, _newest(old, algorithm), begin) for algorithm in ALGORITHMS]
        added = [key for key in made if key is not None]
        with self._database.writing() as work:
            for key in added:
                work.audit.write(_event(tenant, by, Action.KEY_ADDED, key, now))
            if at_once:
                for key in old:
                    work.keys.remove(key.kid)
                    work.audit.write(_event(tenant, by, Action.KEY_RETIRED, key, now))
        self._load(tenant.id)
        return added

    def rotate_due(self, tenants: Iterable[Tenant]) -> int:
        """Do what time asks for: successors of old keys, retirement, removal. For the worker. Returns the changes."""
        return sum(self._rotate_due(tenant) for tenant in tenants)

    def _rotate_due(self, tenant: Tenant) -> int:
        now, by, changes = self._clock.now(), Actor.worker(), 0
        with self._database.reading() as work:
            keys = work.keys.of(tenant.id)
        if not keys:
            return 0  # never used yet
        for algorithm in ALGORITHMS:
            newest = _newest(keys, algorithm)
            if newest is not None and now - newest.active_from >= PERIOD:
                added = self._add(tenant.id, algorithm, newest, now + OVERLAP)
                if added is not None:
                    changes += 1
                    with self._database.writing() as work:
                        work.audit.write(_event(tenant, by, Action.KEY_ADDED, added, now))
        superseded, spent = _superseded(keys, now), [k for k in keys if k.retired_at and now - k.retired_at > RETENTION]
        if superseded or spent:
            with self._database.writing() as work:
                for key in superseded:
                    work.keys.retire(key.kid, now)
                    work.audit.write(_event(tenant, by, Action.KEY_RETIRED, key, now))
                for key in spent:
                    work.keys.remove(key.kid)
        self._rings.pop(tenant.id, None)
        return changes + len(superseded) + len(spent)


@lru_cache(maxsize=1024)
def _kid(header: bytes) -> object:
    """Which key a token asks for, from its first segment. Nothing else is believed before the signature is verified."""
    if len(header) > MAX_HEADER:
        raise ValueError("the header of a token of ours is short")
    content = json.loads(_decoded(header))
    return content.get("kid") if isinstance(content, dict) else None


@lru_cache(maxsize=1024)
def _header(algorithm: str, kid: str, typ: str) -> bytes:
    header = {"alg": algorithm, "kid": kid, "typ": typ}
    return urlsafe_b64encode(_compact(header).encode()).rstrip(b"=")


def _decoded(segment: bytes) -> bytes:
    """Raises `ValueError` for what is not URL-safe base64 without padding (RFC 7515 2)."""
    if segment.translate(None, _URL_SAFE):
        raise ValueError("not URL-safe base64")
    return urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))


_URL_SAFE = (ascii_letters + digits + "-_").encode()
_compact = json.JSONEncoder(separators=(",", ":")).encode
_ALGORITHMS: Mapping[str, Any] = {
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
    "ES256": ECAlgorithm(ECAlgorithm.SHA256),
}


def _newest(keys: Iterable[SigningKey], algorithm: str) -> SigningKey | None:
    mine = [key for key in keys if key.algorithm == algorithm]
    return max(mine, key=lambda key: (key.active_from, key.kid), default=None)


def _superseded(keys: list[SigningKey], now: datetime) -> list[SigningKey]:
    """Keys that sign no more, since a newer one of their algorithm does."""
    found = []
    for algorithm in ALGORITHMS:
        active = [k for k in keys if k.algorithm == algorithm and k.retired_at is None and k.active_from <= now]
        found += sorted(active, key=lambda k: (k.active_from, k.kid))[:-1]
    return found


def _event(tenant: Tenant, by: Actor, action: Action, key: SigningKey, now: datetime) -> Event:
    return Event(now, tenant.directory, by, action, key.kid, {"algorithm": key.algorithm})


def _generate(algorithm: str) -> bytes:
    """PKCS#8, DER."""
    made: PrivateKey
    if algorithm == "RS256":
        made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        made = ec.generate_private_key(ec.SECP256R1())
    return made.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _parse(key: SigningKey, known: Parsed | None) -> Parsed:
    if known is not None:
        return Parsed(key, known.private, known.public, known.jwk)
    # The key is ours, and was sealed with its place: checking its primes again would cost 40 ms.
    private = load_der_private_key(key.private, None, unsafe_skip_rsa_key_validation=True)
    if isinstance(private, rsa.RSAPrivateKey):
        jwk = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        jwk = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    else:
        raise ValueError(f"key {key.kid} is of an unknown kind")
    public: dict[str, Any] = {name: jwk[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in jwk}
    return Parsed(key, private, private.public_key(), {**public, "kid": key.kid, "use": "sig", "alg": key.algorithm})
