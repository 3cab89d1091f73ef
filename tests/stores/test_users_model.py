"""Whatever is done to people in whatever order, the store answers as a dictionary would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.core.errors import IdentifierTaken, InvalidIdentifier
from broker.core.identifiers import Email, parse_identifier
from broker.core.values import DirectoryId, User, UserId
from broker.stores.sql import SqlDatabase
from broker.testing.clock import START, FixedClock
from broker.testing.records import USERS
from tests.sql_engines import opened

# Names that are one by some rule and two by another: case, the Kelvin sign, dotless i, composed and decomposed.
NAMES = st.sampled_from(
    ["ada", "ADA", "kim", "\u212aim", "Ivy", "\u0131vy", "jose\u0301", "jos\u00e9", "bob", "a b", "%", "a@b", "\0"]
)
ADDRESSES = st.sampled_from(
    ["ada@a.example", "ADA@A.example", "ada@a.example.", "\u0131vy@a.example", "ivy@a.example", "ivy@\u00e4.example",
     "ivy@xn--4ca.example", "bob@b.example", "bob", "bob@", "a@b@c.example"]
)  # fmt: skip
WHO = st.sampled_from(["u1", "u2", "u3"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), WHO, st.none() | NAMES, st.none() | ADDRESSES),
        st.tuples(st.just("change"), WHO, st.none() | NAMES, st.none() | ADDRESSES),
        st.tuples(st.just("password"), WHO, st.none(), st.none()),
        st.tuples(st.just("epoch"), WHO, st.none(), st.none()),
        st.tuples(st.just("delete"), WHO, st.none(), st.none()),
    ),
    max_size=12,
)
_directories = count()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlDatabase]:
    folder: Path = tmp_path_factory.mktemp("model")
    database = opened(f"sqlite:///{folder}/broker.db", FixedClock())
    yield database
    database.close()


@dataclass
class Model:
    """What the store should hold, as plainly as it can be said."""

    people: dict[UserId, User] = field(default_factory=dict)

    @staticmethod
    def keys(user: User) -> set[tuple[type, str]]:
        """Raises `InvalidIdentifier`."""
        parsed = [parse_identifier(text) for text in (user.username, user.email) if text is not None]
        if user.username is not None and isinstance(parsed[0], Email):
            raise InvalidIdentifier
        if user.email is not None and not isinstance(parsed[-1], Email):
            raise InvalidIdentifier
        return {(type(one), one.key) for one in parsed}

    def put(self, user: User) -> None:
        keys = self.keys(user)
        if any(keys & self.keys(other) for other in self.people.values() if other.id != user.id):
            raise IdentifierTaken
        self.people[user.id] = user

    def find(self, typed: str) -> User | None:
        try:
            parsed = parse_identifier(typed)
        except InvalidIdentifier:
            return None
        key = (type(parsed), parsed.key)
        return next((user for user in self.people.values() if key in self.keys(user)), None)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_the_store_answers_as_a_dictionary_would(database: SqlDatabase, steps: list[tuple[str, str, str, str]]) -> None:
    directory = DirectoryId(f"d{next(_directories)}")
    model = Model()
    for what, who, name, address in steps:
        id = UserId(f"{directory}-{who}")
        known = model.people.get(id)
        user = known or User(id, directory, START, START, connection=USERS)
        new = replace(user, username=name, email=address)
        expected = got = None
        with database.writing() as work:
            users = work.users
            if what == "add" and known is None:
                expected = _outcome(lambda new=new: model.put(new))
                got = _outcome(lambda users=users, new=new: users.add(new, kinds=("email", "username")))
            elif what == "change" and known is not None:
                expected = _outcome(lambda new=new: model.put(new))
                got = _outcome(lambda users=users, new=new: users.update(new.id, lambda _: new))
            elif what == "password" and known is not None:
                users.write_hash(id, "hash", must_change=False, at=START)
                model.people[id] = replace(known, has_password=True)
            elif what == "epoch" and known is not None:
                model.people[id] = replace(known, epoch=users.move_epoch(id))
                expected, got = known.epoch + 1, model.people[id].epoch
            elif what == "delete":
                users.delete(id)
                model.people.pop(id, None)
        assert got == expected
    with database.reading() as work:
        assert {user.id: user for user in work.users.each(directory)} == model.people
        for who in ("u1", "u2", "u3"):
            assert work.users.get(UserId(f"{directory}-{who}")) == model.people.get(UserId(f"{directory}-{who}"))
        typed = {text for step in steps for text in step[2:] if text is not None}
        for text in typed:
            found = work.users.find(directory, USERS, text)
            assert (found and found.user) == model.find(text)


def _outcome(action: object) -> type[Exception] | None:
    """Which refusal came, if any."""
    try:
        action()  # type: ignore[operator]
    except (IdentifierTaken, InvalidIdentifier) as error:
        return type(error)
    return None
