"""Upstream tokens: signed by another implementation (PyJWT), verified by ours, over the real Fetcher."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Flask, Response, jsonify
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from broker.core.errors import ConnectionFailed
from broker.core.tenant import Egress
from broker.services.fetcher import HttpFetcher
from broker.services.verifier import UpstreamVerifier

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ISSUER = "https://idp.example"
JWKS = f"{ISSUER}/jwks"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_NEW = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC = ec.generate_private_key(ec.SECP256R1())
EC_384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()


def public(key: Any, kid: str | None = None, **more: Any) -> dict[str, Any]:
    kinds: Mapping[type, Any] = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    kind = next((a for t, a in kinds.items() if isinstance(key, t)), OKPAlgorithm)
    facts: dict[str, Any] = kind.to_jwk(key.public_key(), as_dict=True)
    facts.pop("key_ops", None)
    return {**facts, **({"kid": kid} if kid else {}), **more}


class Moving:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time


class Provider:
    """Publishes keys, and counts how often it is asked."""

    def __init__(self) -> None:
        self.keys: list[Any] = [public(RSA, "rsa"), public(EC, "ec"), public(ED, "ed")]
        self.asked = 0
        self.answer: Callable[[], Any] = lambda: jsonify(keys=self.keys)
        self.app = Flask("provider")
        self.app.add_url_rule("/jwks", "jwks", self._jwks)

    def _jwks(self) -> Any:
        self.asked += 1
        return self.answer()


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def clock() -> Moving:
    return Moving()


@pytest.fixture
def verifier(provider: Provider, clock: Moving) -> UpstreamVerifier:
    return UpstreamVerifier(HttpFetcher(Egress(), transport=httpx2.WSGITransport(app=provider.app)), clock)


def claims(**changed: Any) -> dict[str, Any]:
    found = {"iss": ISSUER, "aud": "homerealm", "sub": "1", "iat": NOW.timestamp(), "exp": NOW.timestamp() + 300}
    return {k: v for k, v in {**found, **changed}.items() if v is not ...}


def signed(key: Any = RSA, alg: str = "RS256", kid: str | None = "rsa", header: Any = None, **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, alg, {**({"kid": kid} if kid else {}), **(header or {})})


def verify(verifier: UpstreamVerifier, token: Any, **changed: Any) -> Mapping[str, Any]:
    return verifier.verify(token, **{"jwks_uri": JWKS, "issuer": ISSUER, "audience": "homerealm", **changed})


def refused(verifier: UpstreamVerifier, token: Any, **changed: Any) -> str:
    with pytest.raises(ConnectionFailed) as failed:
        verify(verifier, token, **changed)
    assert failed.value.code == "connection.invalid"
    return failed.value.detail


@pytest.mark.parametrize(
    ("key", "alg", "kid"), [(RSA, "RS256", "rsa"), (RSA, "PS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")]
)
def test_the_algorithms_that_we_allow_are_verified(verifier: UpstreamVerifier, key: Any, alg: str, kid: str) -> None:
    assert verify(verifier, signed(key, alg, kid))["sub"] == "1"


def test_a_changed_token_is_refused(verifier: UpstreamVerifier) -> None:
    head, body, signature = signed().split(".")
    other = urlsafe_b64encode(json.dumps(claims(sub="2")).encode()).rstrip(b"=").decode()
    assert "no key" in refused(verifier, f"{head}.{other}.{signature}")
    assert "no key" in refused(verifier, f"{head}.{body}.{signature[:-8]}AAAAAAAA")


def test_a_token_without_a_signature_is_refused(verifier: UpstreamVerifier) -> None:
    for spelling in ("none", "None", "NONE", ""):
        header = urlsafe_b64encode(json.dumps({"alg": spelling, "kid": "rsa"}).encode()).rstrip(b"=").decode()
        body = urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=").decode()
        assert "algorithm" in refused(verifier, f"{header}.{body}.")


def test_a_public_key_is_never_taken_for_a_shared_secret(verifier: UpstreamVerifier, provider: Provider) -> None:
    """Algorithm confusion: HS256 keyed with the provider's public key (CVE-2015-9235)."""
    import hmac

    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = urlsafe_b64encode(b'{"alg":"HS256","kid":"rsa"}').rstrip(b"=").decode()
    body = urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=").decode()
    mac = urlsafe_b64encode(hmac.digest(pem, f"{head}.{body}".encode(), "sha256")).rstrip(b"=").decode()
    assert "HS256" in refused(verifier, f"{head}.{body}.{mac}")
    provider.keys.append({"kty": "oct", "k": "c2VjcmV0", "kid": "shared"})
    assert "HS256" in refused(verifier, jwt.encode(claims(), b"secret" * 8, "HS256", {"kid": "shared"}))


@pytest.mark.parametrize("algorithms", [["HS256"], ["none"], ["RS256", "HS512"], ["dir"]])
def test_algorithms_with_a_shared_secret_cannot_be_configured(
    verifier: UpstreamVerifier, algorithms: list[str]
) -> None:
    with pytest.raises(ConnectionFailed) as failed:
        verify(verifier, signed(), algorithms=algorithms)
    assert failed.value.code == "connection.misconfigured"


def test_an_algorithm_that_the_connection_does_not_allow_is_refused(verifier: UpstreamVerifier) -> None:
    assert "RS256" in refused(verifier, signed(), algorithms=["ES256"])
    assert "RS384" in refused(verifier, signed(alg="RS384"))


def test_a_key_for_one_algorithm_is_not_used_for_another(verifier: UpstreamVerifier, provider: Provider) -> None:
    provider.keys = [public(RSA, "rsa", alg="RS256")]
    refused(verifier, signed(alg="PS256"))


def test_a_key_in_the_token_itself_is_not_looked_at(verifier: UpstreamVerifier, provider: Provider) -> None:
    foreign = {"jwk": public(RSA_NEW), "jku": "https://evil.example/jwks", "x5u": "https://evil.example/x"}
    refused(verifier, signed(RSA_NEW, header=foreign))


@pytest.mark.parametrize("use", ["enc", "", None])
def test_a_key_that_is_not_for_signatures_is_not_used(
    verifier: UpstreamVerifier, provider: Provider, use: str | None
) -> None:
    provider.keys = [public(RSA, "rsa", use=use)]
    refused(verifier, signed())


def test_a_weak_key_is_not_used(verifier: UpstreamVerifier, provider: Provider) -> None:
    provider.keys = [public(RSA_WEAK, "rsa")]
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        token = signed(RSA_WEAK)
    refused(verifier, token)


def test_a_curve_belongs_to_its_algorithm(verifier: UpstreamVerifier, provider: Provider) -> None:
    provider.keys = [public(EC_384, "ec")]
    assert verify(verifier, signed(EC_384, "ES384", "ec"), algorithms=["ES384"])
    refused(verifier, signed(EC, "ES256", "ec"))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"iss": "https://evil.example"}, "iss"),
        ({"iss": ISSUER + "/"}, "iss"),
        ({"iss": ...}, "iss"),
        ({"iss": [ISSUER]}, "iss"),
        ({"aud": "other"}, "aud"),
        ({"aud": ...}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": ["homerealm", 1]}, "aud"),
        ({"aud": {"homerealm": 1}}, "aud"),
        ({"aud": ["homerealm", "other"]}, "azp"),
        ({"aud": ["homerealm", "other"], "azp": "other"}, "azp"),
        ({"azp": "other"}, "azp"),
        ({"azp": ["homerealm"]}, "azp"),
        ({"exp": NOW.timestamp() - 31}, "expired"),
        ({"exp": ...}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": float("nan")}, "exp"),
        ({"exp": float("inf")}, "exp"),
        ({"exp": 10**400}, "exp"),
        ({"iat": ...}, "iat"),
        ({"iat": NOW.timestamp() + 31}, "iat"),
        ({"iat": NOW.timestamp() - 86_401}, "iat"),
        ({"nbf": NOW.timestamp() + 31}, "not valid yet"),
        ({"nbf": None}, "nbf"),
    ],
)
def test_claims_that_do_not_hold_are_refused(verifier: UpstreamVerifier, changed: dict[str, Any], why: str) -> None:
    body = json.dumps(claims(**changed)).encode()
    assert why in refused(verifier, jwt.api_jws.encode(body, RSA, "RS256", {"kid": "rsa"}))


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": ["homerealm"]},
        {"aud": ["homerealm", "homerealm"]},
        {"aud": ["homerealm", "other"], "azp": "homerealm"},
        {"exp": NOW.timestamp() - 29},
        {"iat": NOW.timestamp() + 29},
        {"nbf": NOW.timestamp() + 29},
        {"iat": int(NOW.timestamp())},
    ],
)
def test_claims_within_the_rules_and_the_leeway_are_accepted(
    verifier: UpstreamVerifier, changed: dict[str, Any]
) -> None:
    assert verify(verifier, signed(**changed))["sub"] == "1"


@pytest.mark.parametrize("kind", ["at+jwt", "application/at+jwt", "logout+jwt", "AT+JWT", 7, None])
def test_a_token_for_another_use_is_refused(verifier: UpstreamVerifier, kind: Any) -> None:
    token = jwt.api_jws.encode(json.dumps(claims()).encode(), RSA, "RS256", {"kid": "rsa", "typ": "x"})
    _, body, signature = token.split(".")
    head = urlsafe_b64encode(json.dumps({"alg": "RS256", "kid": "rsa", "typ": kind}).encode()).rstrip(b"=").decode()
    assert "type" in refused(verifier, f"{head}.{body}.{signature}")


@pytest.mark.parametrize("header", [{"crit": ["exp"], "exp": 1}, {"b64": False}, {"crit": []}])
def test_extensions_that_we_do_not_have_are_refused(verifier: UpstreamVerifier, header: dict[str, Any]) -> None:
    head = urlsafe_b64encode(json.dumps({"alg": "RS256", "kid": "rsa", **header}).encode()).rstrip(b"=").decode()
    assert "extension" in refused(verifier, f"{head}.e30.AAAA")


@pytest.mark.parametrize(
    "token", ["", "a", "a.b", "a.b.c", "a.b.c.d", "é.b.c", None, 7, "e30.e30.e30", "bnVsbA.e30.AA", "." * 2, "=.=.="]
)
def test_what_is_no_token_is_refused(verifier: UpstreamVerifier, token: Any) -> None:
    refused(verifier, token)


def test_an_endless_token_is_refused(verifier: UpstreamVerifier, provider: Provider) -> None:
    refused(verifier, signed(name="x" * 100_000))
    assert provider.asked == 0


def test_a_token_with_many_groups_is_accepted(verifier: UpstreamVerifier) -> None:
    assert len(verify(verifier, signed(groups=["g" * 36] * 500))["groups"]) == 500


@settings(max_examples=60)
@given(st.text(alphabet="abcABC019-_.=", max_size=60) | st.text(max_size=40))
def test_no_input_is_a_crash(text: str) -> None:
    provider = Provider()
    fetcher = HttpFetcher(Egress(), transport=httpx2.WSGITransport(app=provider.app))
    refused(UpstreamVerifier(fetcher, Moving()), text)


def test_a_token_without_kid_is_verified_when_one_key_fits(verifier: UpstreamVerifier, provider: Provider) -> None:
    assert verify(verifier, signed(kid=None))
    provider.keys = [public(RSA), public(RSA_NEW), public(EC)]
    assert "kid" in refused(UpstreamVerifier(verifier._fetcher, Moving()), signed(kid=None))


def test_keys_are_fetched_once(verifier: UpstreamVerifier, provider: Provider) -> None:
    for _ in range(5):
        verify(verifier, signed())
    assert provider.asked == 1


def test_a_new_key_is_found_at_once_and_a_forged_kid_makes_no_second_request(
    verifier: UpstreamVerifier, provider: Provider, clock: Moving
) -> None:
    verify(verifier, signed())
    provider.keys.append(public(RSA_NEW, "new"))
    assert verify(verifier, signed(RSA_NEW, kid="new"))
    assert provider.asked == 2
    for n in range(20):
        refused(verifier, signed(RSA_NEW, kid=f"forged-{n}"))
    assert provider.asked == 2
    clock.time += timedelta(minutes=5)
    for n in range(20):
        refused(verifier, signed(RSA_NEW, kid=f"forged-{n}", iat=clock.time.timestamp()))
    assert provider.asked == 3


def test_each_address_has_keys_and_limits_of_its_own(verifier: UpstreamVerifier, provider: Provider) -> None:
    refused(verifier, signed(kid="forged"))
    assert provider.asked == 2
    verify(verifier, signed(), jwks_uri=JWKS + "?other")
    assert provider.asked == 3


def test_a_key_that_was_withdrawn_is_dead_within_the_hour(
    verifier: UpstreamVerifier, provider: Provider, clock: Moving
) -> None:
    verify(verifier, signed())
    provider.keys = [public(EC, "ec")]
    clock.time += timedelta(minutes=61)
    refused(verifier, signed(iat=clock.time.timestamp(), exp=clock.time.timestamp() + 60))


def test_known_keys_outlive_a_short_failure_of_their_address_and_not_a_long_one(
    verifier: UpstreamVerifier, provider: Provider, clock: Moving
) -> None:
    verify(verifier, signed())
    provider.answer = lambda: Response(status=503)
    lasting = {"exp": (NOW + timedelta(hours=12)).timestamp()}
    clock.time += timedelta(hours=2)
    assert verify(verifier, signed(**lasting))
    assert verify(verifier, signed(**lasting))
    assert provider.asked == 2
    clock.time += timedelta(hours=5)
    for _ in range(2):
        with pytest.raises(ConnectionFailed) as failed:
            verify(verifier, signed(**lasting))
        assert failed.value.code == "connection.unavailable"
    assert provider.asked == 3


def test_keys_that_could_not_be_had_are_asked_for_again(verifier: UpstreamVerifier, provider: Provider) -> None:
    provider.answer = lambda: Response(status=500)
    with pytest.raises(ConnectionFailed) as failed:
        verify(verifier, signed())
    assert failed.value.code == "connection.unavailable"
    provider.answer = lambda: jsonify(keys=provider.keys)
    assert verify(verifier, signed())


@pytest.mark.parametrize("body", ["", "[]", '{"keys": {}}', '{"keys": null}', "<html>", "[" * 100_000])
def test_an_answer_that_holds_no_keys_is_refused(verifier: UpstreamVerifier, provider: Provider, body: str) -> None:
    provider.answer = lambda: Response(body)
    refused(verifier, signed())


def test_keys_that_we_do_not_understand_do_not_spoil_the_others(verifier: UpstreamVerifier, provider: Provider) -> None:
    odd: list[Any] = [
        None,
        "key",
        {},
        {"kty": "RSA", "kid": "rsa"},
        {"kty": "RSA", "kid": "rsa", "n": 5, "e": "AQAB"},
        {"kty": "RSA", "kid": "rsa", "n": "é", "e": "AQAB"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": ["RSA"]},
        {"kty": "AKP", "alg": "ML-DSA-44"},
    ]
    provider.keys = [*odd, *provider.keys]
    assert verify(verifier, signed())
