"""What a connection to an OpenID provider has to refuse (OpenID Connect Core 3.1.3.7, 5.3.2; RFC 8725; RFC 9207)."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from broker.core.connection import Hint
from broker.testing.contracts.connection import refusal
from broker.testing.contracts.redirect_sign_in import (
    RETURN_URL,
    STATE,
    RedirectCase,
    RedirectSignInContract,
    UpstreamSignOutContract,
)
from broker.testing.upstreams.openid import OpenIdStandIn, signing_key

Claims = Callable[[dict[str, Any], int], dict[str, Any]]


@dataclass
class OpenIdCase(RedirectCase):
    @property
    def openid(self) -> OpenIdStandIn:
        if not isinstance(self.provider, OpenIdStandIn):
            raise TypeError("an OpenIdCase needs an OpenIdStandIn")
        return self.provider


# What is wrong with an ID token: its claims, and the time that it is.
_BROKEN: Mapping[str, Claims] = {
    "another nonce": lambda c, now: {**c, "nonce": "another"},
    "no nonce": lambda c, now: {k: v for k, v in c.items() if k != "nonce"},
    "a nonce that is no text": lambda c, now: {**c, "nonce": [c["nonce"]]},
    "another issuer": lambda c, now: {**c, "iss": "https://evil.test"},
    "an issuer with a slash more": lambda c, now: {**c, "iss": c["iss"] + "/"},
    "no issuer": lambda c, now: {k: v for k, v in c.items() if k != "iss"},
    "another audience": lambda c, now: {**c, "aud": "somebody-else"},
    "an audience that only begins like us": lambda c, now: {**c, "aud": c["aud"] + "x"},
    "no audience": lambda c, now: {k: v for k, v in c.items() if k != "aud"},
    "several audiences and no azp": lambda c, now: {
        **{k: v for k, v in c.items() if k != "azp"}, "aud": [c["aud"], "somebody-else"],
    },
    "the azp of somebody else": lambda c, now: {**c, "aud": [c["aud"], "somebody-else"], "azp": "somebody-else"},
    "an end in the past": lambda c, now: {**c, "exp": now - 31},
    "no end": lambda c, now: {k: v for k, v in c.items() if k != "exp"},
    "a beginning in the future": lambda c, now: {**c, "nbf": now + 120},
    "an issue in the future": lambda c, now: {**c, "iat": now + 120},
    "an issue long ago": lambda c, now: {**c, "iat": now - 3 * 86400},
    "no issue": lambda c, now: {k: v for k, v in c.items() if k != "iat"},
    "no subject": lambda c, now: {k: v for k, v in c.items() if k != "sub"},
    "an empty subject": lambda c, now: {**c, "sub": ""},
    "a subject that is too long": lambda c, now: {**c, "sub": "x" * 256},
    "a subject that is a list": lambda c, now: {**c, "sub": [c["sub"]]},
    "the at_hash of another access token": lambda c, now: {**c, "at_hash": "MTIzNDU2Nzg5MDEyMzQ1Ng"},
    "an at_hash that is no text": lambda c, now: {**c, "at_hash": 1},
    "an auth_time in the future": lambda c, now: {**c, "auth_time": now + 120},
    "an auth_time that is no time": lambda c, now: {**c, "auth_time": "yesterday"},
}  # fmt: skip


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _part(values: Mapping[str, Any]) -> str:
    return _encode(json.dumps(values).encode())


def _forged(case: OpenIdCase, how: str, claims: Mapping[str, Any]) -> str:
    """A token by somebody who does not have the provider's key."""
    provider = case.openid
    payload, headers = dict(claims), {"kid": provider.kid}
    public = signing_key(provider.kid).public_key()
    honest = provider.sign_honestly(payload)
    match how:
        case "alg none":
            return jwt.encode(payload, "", algorithm="none", headers=headers)
        case "no signature":
            return honest.rpartition(".")[0] + "."
        case "hmac with our secret":
            return jwt.encode(payload, provider.client.secret.ljust(32, "x"), algorithm="HS256", headers=headers)
        case "hmac with the public key":
            # By hand: libraries no longer do this, attackers do.
            pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            signed = f"{_part({'alg': 'HS256', **headers})}.{_part(payload)}"
            return f"{signed}.{_encode(hmac.digest(pem, signed.encode(), 'sha256'))}"
        case "another key with the same kid":
            return jwt.encode(payload, signing_key("evil"), algorithm="RS256", headers=headers)
        case "a key of its own in the header":
            own = RSAAlgorithm.to_jwk(signing_key("evil").public_key(), as_dict=True)
            return jwt.encode(payload, signing_key("evil"), algorithm="RS256", headers={**headers, "jwk": own})
        case "keys elsewhere":
            return jwt.encode(
                payload,
                signing_key("evil"),
                algorithm="RS256",
                headers={"kid": "evil", "jku": "https://evil.test/jwks"},
            )
        case "an algorithm that we did not configure":
            return jwt.encode(payload, signing_key(provider.kid), algorithm="RS512", headers=headers)
        case "a changed payload":
            other = provider.sign_honestly({**payload, "sub": "somebody-else"})
            head, _, signature = honest.split(".")
            return f"{head}.{other.split('.')[1]}.{signature}"
        case "an access token":
            return jwt.encode(
                payload, signing_key(provider.kid), algorithm="RS256", headers={**headers, "typ": "at+jwt"}
            )
        case "a logout token":
            return jwt.encode(
                payload, signing_key(provider.kid), algorithm="RS256", headers={**headers, "typ": "logout+jwt"}
            )
        case _:
            return how


_FORGERIES = (
    "alg none", "no signature", "hmac with our secret", "hmac with the public key", "another key with the same kid",
    "a key of its own in the header", "keys elsewhere", "an algorithm that we did not configure", "a changed payload",
    "an access token", "a logout token", "not.a.token", "", "a.b", "e30.e30.e30", "\N{SNOWMAN}.x.y",
)  # fmt: skip


class OpenIdContract(RedirectSignInContract, UpstreamSignOutContract):
    """An OpenID provider: every reason to refuse of OpenID Connect Core 3.1.3.7, 3.1.3.8 and 5.3.2."""

    @pytest.fixture
    def case(self) -> OpenIdCase:
        raise NotImplementedError

    def refused_without_userinfo(self, case: OpenIdCase, connection: Any, code: str = "connection.invalid") -> None:
        """A bad ID token is refused, and userinfo is never asked for its bearer."""
        arrival = case.answer(connection)
        with refusal(code):
            connection.arrive(arrival)
        assert not any("userinfo" in url for _, url in case.bench.fetcher.asked)

    @pytest.mark.parametrize("broken", _BROKEN)
    def test_an_id_token_is_refused_that_has(self, case: OpenIdCase, broken: str) -> None:
        now = int(case.bench.clock.now().timestamp())
        case.openid.change_claims = lambda claims: _BROKEN[broken](claims, now)
        self.refused_without_userinfo(case, case.make())

    @pytest.mark.parametrize("how", _FORGERIES)
    def test_an_id_token_is_refused_that_is_forged_by(self, case: OpenIdCase, how: str) -> None:
        case.openid.sign = lambda claims: _forged(case, how, claims)
        self.refused_without_userinfo(case, case.make())
        assert ("GET", "https://evil.test/jwks") not in case.bench.fetcher.asked

    def test_a_token_answer_without_an_id_token_is_refused(self, case: OpenIdCase) -> None:
        case.openid.change_token = lambda answer: {k: v for k, v in answer.items() if k != "id_token"}
        self.refused_without_userinfo(case, case.make())

    def test_an_id_token_of_another_departure_is_refused(self, case: OpenIdCase) -> None:
        connection = case.make()
        first: list[str] = []

        def remember(answer: dict[str, Any]) -> dict[str, Any]:
            first.append(answer["id_token"])
            return {**answer, "id_token": first[0]}

        case.openid.change_token = remember
        case.sign_in(connection)
        with refusal():
            case.sign_in(connection)

    def test_every_departure_has_a_nonce_of_its_own(self, case: OpenIdCase) -> None:
        connection = case.make()
        departures = [connection.depart(STATE, RETURN_URL, Hint()) for _ in range(3)]
        nonces = [dict(parse_qsl(urlsplit(one.url).query))["nonce"] for one in departures]
        assert nonces == [one.private["nonce"] for one in departures]
        assert len(set(nonces)) == 3
        assert min(map(len, nonces)) >= 22

    def test_a_new_key_of_the_provider_is_found_and_an_unknown_one_asked_for_rarely(self, case: OpenIdCase) -> None:
        connection = case.make()
        case.sign_in(connection)
        case.openid.kid = "k2"
        case.sign_in(connection)
        case.openid.sign = lambda claims: jwt.encode(
            dict(claims), signing_key("evil"), algorithm="RS256", headers={"kid": "evil"}
        )
        jwks_uri = case.openid.metadata()["jwks_uri"]
        before = case.bench.fetcher.asked.count(("GET", jwks_uri))
        for _ in range(5):
            with refusal():
                case.sign_in(connection)
        assert case.bench.fetcher.asked.count(("GET", jwks_uri)) == before

    @pytest.mark.parametrize("issuer", ["https://evil.test", "", None])
    def test_a_discovery_document_of_another_issuer_is_refused(self, case: OpenIdCase, issuer: str | None) -> None:
        case.openid.change_metadata = lambda found: {**found, "issuer": issuer}
        with refusal("connection.misconfigured"):
            case.make().depart(STATE, RETURN_URL, Hint())

    @pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
    @pytest.mark.parametrize(
        "value", [None, "", 7, "javascript:alert(1)", "http://plain.test/", "//x", "https://[", "/x"]
    )
    def test_a_discovery_document_without_usable_addresses_is_refused(
        self, case: OpenIdCase, name: str, value: Any
    ) -> None:
        case.openid.change_metadata = lambda found: {**found, name: value}
        with refusal("connection.misconfigured"):
            case.make().depart(STATE, RETURN_URL, Hint())

    def test_the_discovery_document_is_kept_for_an_hour_and_survives_an_outage(self, case: OpenIdCase) -> None:
        connection = case.make()

        def depart() -> int:
            connection.depart(STATE, RETURN_URL, Hint())
            return sum("openid-configuration" in url for _, url in case.bench.fetcher.asked)

        assert [depart(), depart()] == [1, 1]
        case.bench.clock.advance(timedelta(minutes=61))
        assert depart() == 2
        case.bench.clock.advance(timedelta(minutes=61))
        case.bench.world.down.update(case.stand_in.hosts)
        assert [depart(), depart()] == [3, 3]
        case.bench.clock.advance(timedelta(minutes=1))
        assert depart() == 4
        case.bench.clock.advance(timedelta(days=1))
        with refusal("connection.unavailable"):
            depart()
