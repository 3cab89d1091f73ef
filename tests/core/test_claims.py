"""No claim that nobody asked for."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.claims import SCOPES, STANDARD, from_upstream, of_user, select
from broker.testing.records import a_user

anything = settings(deadline=None, max_examples=60)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMES = st.sampled_from([*sorted(STANDARD), "sub", "iss", "aud", "exp", "roles", "password", "private"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just("true") | st.just("x" * 3000),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PROFILES = st.dictionaries(NAMES, VALUES, max_size=8)
ASKED = st.sets(st.sampled_from([*SCOPES, "openid", "offline_access", "admin"]))
PEOPLE = st.builds(
    lambda profile, email, username: a_user(NOW, profile=profile, email=email, username=username),
    PROFILES, st.sampled_from([None, "ada@acme.example"]), st.sampled_from([None, "ada"]),
)  # fmt: skip


@anything
@given(PEOPLE, ASKED, st.none() | st.dictionaries(NAMES, st.none()))
def test_an_app_gets_what_it_asked_for_and_its_subject(user, scopes, requested) -> None:
    got = select(user, scopes, requested)
    asked = {name for scope in scopes for name in SCOPES.get(scope, ())} | set(requested or ())
    assert set(got) - {"sub"} <= asked
    assert set(got) <= STANDARD | {"sub"}
    assert got["sub"] == user.id
    for name in asked & STANDARD & set(of_user(user)):
        assert got[name] == of_user(user)[name]


@anything
@given(PEOPLE)
def test_an_address_and_whether_it_is_proven_come_from_the_record_alone(user) -> None:
    known = of_user(user)
    assert (known.get("email"), known.get("email_verified")) == (
        (user.email, user.email_verified) if user.email else (None, None)
    )
    assert known.get("preferred_username", user.username) == user.username or not user.username
    assert known["updated_at"] == int(NOW.timestamp())
    assert None not in known.values()


@anything
@given(PROFILES, st.dictionaries(st.sampled_from(sorted(STANDARD)), NAMES, max_size=3))
def test_what_a_provider_says_has_the_right_type_or_is_dropped(raw, mapping) -> None:
    for name, value in from_upstream(raw, mapping).items():
        assert name in STANDARD
        if name.endswith("_verified"):
            said = raw[mapping.get(name, name)]
            assert value is (said is True or said == "true")
        elif name == "address":
            assert all(isinstance(part, str) for pair in value.items() for part in pair)
        else:
            assert isinstance(value, str)
            assert 0 < len(value) <= 2048


def test_every_scope_is_worth_its_claims_and_no_claim_belongs_to_two() -> None:
    assert sum(len(names) for names in SCOPES.values()) == len(STANDARD)
