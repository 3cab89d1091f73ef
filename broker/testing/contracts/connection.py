"""What a connection has to do, by what it can do.

A test class inherits the contract of each capability, and gives a fixture `case`. For an OpenID provider one is enough:

    class TestPartner(OpenIdContract):
        @pytest.fixture
        def case(self) -> OpenIdCase: ...

`ConnectionContract` notices a capability that no contract among the bases tries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from broker.core.connection import (
    Connection,
    LocalReset,
    PasswordSignIn,
    RedirectSignIn,
    Refresh,
    ResetHow,
    UpstreamReset,
    UpstreamSignOut,
)
from broker.core.errors import ConnectionFailed
from broker.core.values import ConnectionId
from broker.sdk import ConnectionSettings
from broker.testing.tools import Workbench

CAPABILITIES: tuple[type, ...] = (PasswordSignIn, RedirectSignIn, LocalReset, UpstreamReset, UpstreamSignOut, Refresh)
UNKNOWN = ("nobody", "nobody@acme.test", "", "@", "a@b@c", "\0", "x" * 5000, "\ud800", "*")


@dataclass
class Case:
    """One connection type on a workbench."""

    kind: type[Connection[Any]]
    settings: dict[str, Any]
    """A valid configuration without `id` and `type`, as YAML would say it."""
    bench: Workbench = field(default_factory=Workbench)

    def make(self, **changes: Any) -> Any:
        """The connection; `changes` overwrite or (None) remove settings."""
        written = {key: value for key, value in {**self.settings, **changes}.items() if value is not None}
        settings = self.kind.Settings.model_validate({"id": "tried", "type": "tried", **written})
        return self.kind(ConnectionId("tried"), settings, self.bench.tools)


def refusal(code: str = "connection.invalid") -> Any:
    """`with refusal(): ...`: refused with this code, by an error whose page text quotes nobody."""
    return pytest.raises(ConnectionFailed, check=lambda error: error.code == code and not error.facts)


class ConnectionContract:
    """Every connection."""

    @pytest.fixture
    def case(self) -> Case:
        raise NotImplementedError

    def test_it_can_be_made_of_its_settings(self, case: Case) -> None:
        connection = case.make()
        assert connection.id == "tried"
        assert connection.title
        assert case.make(title="Something else").title == "Something else"

    def test_it_has_one_way_to_sign_in_and_at_most_one_to_reset(self, case: Case) -> None:
        assert issubclass(case.kind, PasswordSignIn) != issubclass(case.kind, RedirectSignIn)
        assert not (issubclass(case.kind, LocalReset) and issubclass(case.kind, UpstreamReset))

    def test_every_capability_is_tried_by_its_contract(self, case: Case) -> None:
        tried = {capability for cls in type(self).__mro__ for capability in vars(cls).get("tries", ())}
        can = {capability for capability in CAPABILITIES if issubclass(case.kind, capability)}
        untried = [capability.__name__ for capability in can - tried]
        assert untried == []

    def test_its_settings_are_frozen_and_refuse_what_they_do_not_know(self, case: Case) -> None:
        assert issubclass(case.kind.Settings, ConnectionSettings)
        with pytest.raises(ValueError, match="extra_forbidden"):
            case.make(no_such_setting="1")
        with pytest.raises(ValueError, match="frozen"):
            case.make().settings.title = "other"

    def test_its_secrets_are_not_in_any_text_of_it(self, case: Case) -> None:
        connection = case.make()
        texts = f"{connection.settings!r} {connection.settings.model_dump_json()} {vars(connection)!r}"
        assert [value for key, value in case.settings.items() if "secret" in key and value in texts] == []


class PasswordSignInContract(ConnectionContract):
    """Needs a database or directory with one person in it: fixtures `identifier` and `password`."""

    tries: ClassVar[tuple[type, ...]] = (PasswordSignIn,)

    @pytest.fixture
    def identifier(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def password(self) -> str:
        raise NotImplementedError

    def test_the_right_password_says_who_it_is(self, case: Case, identifier: str, password: str) -> None:
        identity = case.make().check_password(identifier, password)
        assert identity is not None
        assert identity.connection == "tried"
        assert identity.subject
        assert identity.methods == ("pwd",)
        assert identity.at == case.bench.clock.now()

    @pytest.mark.parametrize("wrong", ["", " ", "wrong", "\0", "x" * 5000, "\ud800", "correct horse battery staple "])
    def test_any_other_password_is_nobody(self, case: Case, identifier: str, wrong: str) -> None:
        assert case.make().check_password(identifier, wrong) is None

    @pytest.mark.parametrize(
        "unknown", ["nobody", "nobody@acme.test", "", "@", "a@b@c", "\0", "x" * 5000, "\ud800", "*"]
    )
    def test_an_identifier_of_nobody_is_nobody(self, case: Case, password: str, unknown: str) -> None:
        assert case.make().check_password(unknown, password) is None


class UpstreamResetContract(ConnectionContract):
    """Passwords live elsewhere."""

    tries: ClassVar[tuple[type, ...]] = (UpstreamReset,)

    def test_the_reset_page_depends_on_public_facts_only(self, case: Case) -> None:
        connection = case.make()
        pages = [connection.reset_page(hint) for hint in (None, "ada@acme.test", "nobody@acme.test")]
        assert {(page.how, page.provider, page.text, page.change_only) for page in pages} == {
            (pages[0].how, pages[0].provider, pages[0].text, pages[0].change_only)
        }
        bare = [(page.url or "").partition("?")[0] for page in pages]
        assert len(set(bare)) == 1
        assert case.bench.fetcher.asked == []

    def test_the_reset_page_has_what_its_kind_needs(self, case: Case) -> None:
        page = case.make().reset_page(None)
        assert page.how is not ResetHow.LOCAL
        assert page.provider
        if page.how in (ResetHow.DEEP_LINK, ResetHow.OIDC_FORGOT):
            assert urlsplit(page.url or "").scheme == "https"
        else:
            assert page.url is None
        assert (page.how is not ResetHow.TEXT) or page.text

    def test_a_tenant_may_say_another_reset_page(self, case: Case) -> None:
        url = "https://sso.acme.example/forgot?realm=1"
        page = case.make(reset={"how": "deep_link", "url": url}).reset_page("ada@acme.test")
        assert (page.how, page.url) == (ResetHow.DEEP_LINK, url)

    def test_a_hint_is_told_only_where_the_tenant_says_its_parameter(self, case: Case) -> None:
        reset = {"how": "deep_link", "url": "https://sso.acme.example/forgot?realm=1", "hint_parameter": "user"}
        connection = case.make(reset=reset)
        assert connection.reset_page("ada+x&y=1@acme.test").url == (
            "https://sso.acme.example/forgot?realm=1&user=ada%2Bx%26y%3D1%40acme.test"
        )
        assert connection.reset_page(None).url == "https://sso.acme.example/forgot?realm=1"

    def test_words_and_an_ordinary_sign_in_are_the_other_ways(self, case: Case) -> None:
        page = case.make(reset={"how": "text", "text": "Call 4711."}).reset_page("ada@acme.test")
        assert (page.how, page.url, page.text) == (ResetHow.TEXT, None, "Call 4711.")
        page = case.make(reset={"how": "authorize_hint"}).reset_page("ada@acme.test")
        assert (page.how, page.url) == (ResetHow.AUTHORIZE_HINT, None)

    @pytest.mark.parametrize(
        "reset",
        [
            {"how": "local"},
            {"how": "text"},
            {"how": "deep_link", "url": "http://sso.acme.example/forgot"},
            {"how": "deep_link", "url": "javascript:alert(1)"},
            {"how": "no_such"},
            {"how": "authorize_hint", "hint_parameter": "user"},
        ],
        ids=lambda reset: "-".join(reset.values()),
    )
    def test_a_reset_that_cannot_work_is_refused_with_the_configuration(self, case: Case, reset: Any) -> None:
        with pytest.raises(ValueError):
            case.make(reset=reset)


class LocalResetContract(ConnectionContract):
    """Passwords live here. Needs the same person as `PasswordSignInContract`."""

    tries: ClassVar[tuple[type, ...]] = (LocalReset,)

    def test_the_worker_finds_a_person_by_what_they_sign_in_with(self, case: Case, identifier: str) -> None:
        assert len(case.make().find(identifier)) == 1

    @pytest.mark.parametrize("unknown", UNKNOWN)
    def test_the_worker_finds_nobody_by_an_identifier_of_nobody(self, case: Case, unknown: str) -> None:
        assert case.make().find(unknown) == []
