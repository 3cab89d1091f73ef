"""Records as bytes: nothing is lost, other versions can read them, and they are small."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.transaction import Transaction
from broker.core.values import Grant, Identity, Session
from broker.stores.kv import codec
from broker.stores.kv.codec import Unreadable, decode, encode, encode_grant
from broker.testing.clock import START
from broker.testing.samples import a_grant, a_session, a_transaction, an_identified, an_identity

FULL = (
    a_session(START),
    a_grant(START),
    an_identity(START),
    dataclasses.replace(
        an_identified(a_transaction(START), START).pass_factor("otp").consent(("openid",)).finish(),
        notice="mail_sent", session="s1",
    ),
)  # fmt: skip


@pytest.mark.parametrize("record", FULL, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_equal(record) -> None:
    assert decode(type(record), encode(record)) == record


def test_what_waits_and_what_stays_of_a_grant_are_what_each_is_encoded_as() -> None:
    for grant in (a_grant(START), a_grant(START).redeemed()):
        assert encode_grant(grant) == (encode(grant, without="id", small=False), encode(grant.redeemed(), without="id"))


@pytest.mark.parametrize("record", FULL, ids=lambda record: type(record).__name__)
def test_the_samples_leave_no_field_at_its_default(record) -> None:
    """A field that the samples do not set would not be tested here."""
    same = [
        field.name
        for field in dataclasses.fields(record)
        if field.default is not dataclasses.MISSING and getattr(record, field.name) == field.default
    ]
    assert same == (["upstream"] if isinstance(record, Transaction) else [])


@pytest.mark.parametrize("kind", [Session, Grant, Identity, Transaction], ids=lambda kind: kind.__name__)
def test_no_two_fields_of_a_record_share_a_short_name(kind) -> None:
    names = [codec._SHORT.get(field.name, field.name) for field in dataclasses.fields(kind)]
    assert sorted(set(names)) == sorted(names)


def test_values_that_json_would_change_keep_their_type() -> None:
    session = decode(Session, encode(FULL[0]))
    assert isinstance(session.clients, tuple)
    assert isinstance(session.identity.methods, tuple)
    assert session.expires_at.tzinfo is UTC
    transaction = decode(Transaction, encode(dataclasses.replace(FULL[3], consented=(), factors=())))
    assert transaction.consented == ()
    assert decode(Transaction, encode(a_transaction(START))).consented is None


@given(
    st.datetimes(timezones=st.just(UTC)) | st.just(datetime(2026, 10, 25, 1, tzinfo=timezone(timedelta(hours=2)))),
    st.text() | st.just("\ud800"),
    st.dictionaries(st.text(), st.text(), max_size=4),
)
def test_times_and_texts_of_any_kind_come_back(at: datetime, text: str, request: dict[str, str]) -> None:
    record = a_transaction(at if at < datetime(9000, 1, 1, tzinfo=UTC) else START, identifier=text, request=request)
    assert decode(Transaction, encode(record)) == record


def test_a_field_of_a_newer_version_is_ignored_and_a_missing_one_has_its_default() -> None:
    plain = {"i": "s1", "d": "acme/live", "u": "u1", "e": 0, "a": 0, "x": 1, "z": 2, "invented": [1, {"a": None}],
             "p": {"y": "users", "w": "", "b": "u1", "f": 0, "later": True}}  # fmt: skip
    session = decode(Session, json.dumps(plain).encode())
    assert session.clients == ()
    assert session.confirmed_at is None
    assert session.identity.subject == "u1"


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b"\x01", b"\x01garbage", b"\x02later", b"{", b'{"i":1}', b"\xff" * 40]
)
def test_what_cannot_be_read_says_so(content: bytes) -> None:
    for kind in (Session, Grant, Transaction, Identity):
        with pytest.raises(Unreadable):
            decode(kind, content)


def test_a_field_that_is_known_already_is_left_out() -> None:
    record = FULL[1]
    assert record.id.encode() not in encode(record, without="id")
    assert decode(Grant, encode(record, without="id"), id=record.id) == record


def test_an_ordinary_session_is_half_as_long_as_its_json() -> None:
    session = a_session(START, identity=an_identity(START, claims={}, private={}))
    assert len(encode(session)) * 2 < len(json.dumps(codec._pack(session)))
