"""What a connection has to do whose people sign in at a provider and come back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from broker.core.connection import Arrival, Hint, Redirect, RedirectSignIn, UpstreamSignOut
from broker.core.values import Identity
from broker.testing.contracts.connection import Case, ConnectionContract, UpstreamResetContract, refusal
from broker.testing.upstreams.provider import StandIn
from broker.testing.world import Browser, Page

RETURN_URL = "https://login.acme.test/callback/tried"
STATE = "tx1.state"


@dataclass
class RedirectCase(Case):
    """Together with a stand-in of its provider, where `person` signs in with `password`."""

    provider: Any = None
    person: str = "ada"
    password: str = "correct horse battery staple"
    subject: str = ""
    """What `Identity.subject` has to be."""
    issuer: str = ""
    refusals: Mapping[str, str] = field(default_factory=lambda: {"access_denied": "connection.denied"})

    def __post_init__(self) -> None:
        self.stand_in.settle(self.bench.world)
        self.browser = Browser(self.bench.world, stop_at=(RETURN_URL,))

    @property
    def stand_in(self) -> StandIn:
        if not isinstance(self.provider, StandIn):
            raise TypeError("a RedirectCase needs a stand-in of its provider")
        return self.provider

    def visit(self, connection: RedirectSignIn, hint: Hint = Hint()) -> tuple[Page, Arrival]:  # noqa: B008
        """Depart and show the provider's first page; the arrival is what it would be without an answer."""
        departure = connection.depart(STATE, RETURN_URL, hint)
        if not isinstance(departure, Redirect):
            raise TypeError("this contract is for redirects")
        page = self.browser.go(departure.url)
        return page, Arrival({}, departure.private, RETURN_URL, hint)

    def answer(self, connection: RedirectSignIn, hint: Hint = Hint(), button: str = "Sign in") -> Arrival:  # noqa: B008
        """Depart, press a button at the provider, and come back."""
        page, arrival = self.visit(connection, hint)
        if page.url.startswith(RETURN_URL):
            return replace(arrival, params=answered(page))
        form = page.form(button).fill({"username": self.person, "current-password": self.password})
        return replace(arrival, params=answered(form.submit(button)))

    def sign_in(self, connection: RedirectSignIn, hint: Hint = Hint()) -> Identity:  # noqa: B008
        return connection.arrive(self.answer(connection, hint))


def answered(page: Page) -> dict[str, str]:
    """The parameters that came back to us."""
    if not page.url.startswith(RETURN_URL):
        raise LookupError(f"the provider shows {page.url} {page.status}: {page.text}")
    return dict(parse_qsl(urlsplit(page.url).query, keep_blank_values=True))


class RedirectSignInContract(UpstreamResetContract):
    """People sign in at a provider."""

    tries: ClassVar[tuple[type, ...]] = (RedirectSignIn,)

    @pytest.fixture
    def case(self) -> RedirectCase:
        raise NotImplementedError

    def test_somebody_signs_in_at_the_provider_and_comes_back(self, case: RedirectCase) -> None:
        identity = case.sign_in(case.make())
        assert (identity.connection, identity.issuer, identity.subject) == ("tried", case.issuer, case.subject)
        assert identity.at == case.bench.clock.now()
        assert all(isinstance(value, str) for value in identity.private.values())

    def test_who_somebody_is_does_not_change_from_one_sign_in_to_the_next(self, case: RedirectCase) -> None:
        connection = case.make()
        first = case.sign_in(connection)
        case.browser.cookies.clear()
        case.bench.clock.advance(timedelta(days=3))
        again = case.sign_in(connection)
        assert (again.issuer, again.subject) == (first.issuer, first.subject)

    def test_the_request_carries_our_state_and_address_and_no_secret(self, case: RedirectCase) -> None:
        departure = case.make().depart(STATE, RETURN_URL, Hint(identifier="ada@acme.test", language="de"))
        sent = parse_qs(urlsplit(departure.url).query)
        assert sent["state"] == [STATE]
        assert sent["redirect_uri"] == [RETURN_URL]
        assert sent["response_type"] == ["code"]
        assert all(len(values) == 1 for values in sent.values())
        assert case.stand_in.client.secret not in departure.url

    def test_pkce_is_by_s256_and_the_verifier_stays_with_us(self, case: RedirectCase) -> None:
        departure = case.make().depart(STATE, RETURN_URL, Hint())
        sent = dict(parse_qsl(urlsplit(departure.url).query))
        assert sent["code_challenge_method"] == "S256"
        verifier = departure.private["verifier"]
        assert 43 <= len(verifier) <= 128
        assert verifier not in departure.url
        assert sent["code_challenge"] != verifier

    def test_two_departures_share_nothing(self, case: RedirectCase) -> None:
        connection = case.make()
        one, two = (connection.depart(STATE, RETURN_URL, Hint()).private for _ in range(2))
        assert one["verifier"] != two["verifier"]

    def test_cancelling_there_is_a_refusal_and_no_failure(self, case: RedirectCase) -> None:
        connection = case.make()
        arrival = case.answer(connection, button="Cancel")
        with refusal("connection.denied"):
            connection.arrive(arrival)
        assert [url for method, url in case.bench.fetcher.asked if method == "POST"] == []

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            ("login_required", "connection.denied"),
            ("consent_required", "connection.denied"),
            ("temporarily_unavailable", "connection.unavailable"),
            ("server_error", "connection.unavailable"),
            ("invalid_scope", "connection.misconfigured"),
            ("unauthorized_client", "connection.misconfigured"),
            ("<script>alert(1)</script>", "connection.invalid"),
            ("", "connection.invalid"),
        ],
    )
    def test_errors_of_the_provider_have_codes_of_ours(self, case: RedirectCase, error: str, code: str) -> None:
        connection = case.make()
        case.stand_in.change_response = lambda sent: {**{k: v for k, v in sent.items() if k != "code"}, "error": error}
        arrival = case.answer(connection)
        with refusal(code):
            connection.arrive(arrival)

    @pytest.mark.parametrize("code", [None, "", "forged", "x" * 5000, "\r\nX: 1", "\udcff"])
    def test_a_missing_or_forged_code_is_refused(self, case: RedirectCase, code: str | None) -> None:
        connection = case.make()
        arrival = case.answer(connection)
        params = {key: value for key, value in arrival.params.items() if key != "code"}
        if code is not None:
            params["code"] = code
        with refusal():
            connection.arrive(replace(arrival, params=params))

    def test_a_code_works_once(self, case: RedirectCase) -> None:
        connection = case.make()
        arrival = case.answer(connection)
        connection.arrive(arrival)
        with refusal():
            connection.arrive(arrival)

    def test_a_code_of_another_departure_is_refused(self, case: RedirectCase) -> None:
        """Somebody makes a victim's browser come back with the attacker's code (RFC 9700 4.5, 4.7)."""
        connection = case.make()
        theirs = case.answer(connection)
        mine = connection.depart(STATE, RETURN_URL, Hint())
        with refusal():
            connection.arrive(replace(theirs, private=mine.private))

    @pytest.mark.parametrize("lost", ["issuer", "verifier"])
    def test_nobody_arrives_without_having_departed(self, case: RedirectCase, lost: str) -> None:
        connection = case.make()
        arrival = case.answer(connection)
        private = {key: value for key, value in arrival.private.items() if key != lost}
        with refusal():
            connection.arrive(replace(arrival, private=private))
        with refusal():
            connection.arrive(replace(arrival, private={**arrival.private, lost: "https://evil.test"}))

    def test_an_answer_that_names_another_issuer_is_refused(self, case: RedirectCase) -> None:
        """Mix-up (RFC 9207): before the code is sent anywhere."""
        connection = case.make()
        arrival = case.answer(connection)
        for issuer in ("https://evil.test", case.issuer + "/", ""):
            with refusal():
                connection.arrive(replace(arrival, params={**arrival.params, "iss": issuer}))
        assert [url for method, url in case.bench.fetcher.asked if method == "POST"] == []

    def test_our_wrong_secret_is_our_mistake(self, case: RedirectCase) -> None:
        connection = case.make(client_secret="no-longer-the-right-one")
        arrival = case.answer(connection)
        with refusal("connection.misconfigured"):
            connection.arrive(arrival)

    def test_a_provider_that_does_not_answer_lets_nobody_in(self, case: RedirectCase) -> None:
        connection = case.make()
        arrival = case.answer(connection)
        case.bench.world.down.update(case.stand_in.hosts)
        with refusal("connection.unavailable"):
            connection.arrive(arrival)

    @pytest.mark.parametrize(
        "token", [{}, {"access_token": 7}, {"access_token": "no\nheader"}, {"access_token": "x" * 99}]
    )
    def test_a_broken_token_answer_is_refused(self, case: RedirectCase, token: dict[str, Any]) -> None:
        connection = case.make()
        case.stand_in.change_token = lambda answer: token
        arrival = case.answer(connection)
        with refusal():
            connection.arrive(arrival)

    def test_an_address_counts_as_verified_only_as_the_tenant_trusts(self, case: RedirectCase) -> None:
        assert case.sign_in(case.make(trust_email="always")).email_verified is True
        case.browser.cookies.clear()
        assert case.sign_in(case.make(trust_email="never")).email_verified is False

    def test_parameters_that_are_ours_cannot_be_configured(self, case: RedirectCase) -> None:
        for name in ("state", "nonce", "redirect_uri", "code_challenge", "response_type"):
            with pytest.raises(ValueError, match="we set ourselves"):
                case.make(parameters={name: "x"})
        departure = case.make(parameters={"audience": "a b"}).depart(STATE, RETURN_URL, Hint())
        assert parse_qs(urlsplit(departure.url).query)["audience"] == ["a b"]


class UpstreamSignOutContract(ConnectionContract):
    """Signing out at the provider as well. The case is one of `RedirectCase` whose provider offers it or not."""

    tries: ClassVar[tuple[type, ...]] = (UpstreamSignOut,)

    def test_nobody_is_sent_to_sign_out_unless_the_tenant_wants_it(self, case: RedirectCase) -> None:
        connection = case.make()
        identity = case.sign_in(connection)
        assert dict(identity.private) == {}
        assert connection.sign_out(identity, RETURN_URL, "s") is None
