"""What a store of people has to do (`broker.core.ports.Users`)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from broker.core.errors import IdentifierTaken, InvalidIdentifier
from broker.core.ports import Credentials, Database
from broker.core.values import ClientId, ConnectionId, User, UserId
from broker.testing.clock import FixedClock
from broker.testing.contracts.database import Stored
from broker.testing.race import race
from broker.testing.records import BOTH, DEV, HASH, LIVE, USERS, a_federated_user, a_ticket, a_user, an_event
from broker.testing.samples import an_identity

HOUR = timedelta(hours=1)
OTHER = ConnectionId("partners")
BOB = UserId("user-bob")


class UsersContract(Stored):
    """Adding, finding and changing people."""

    def test_a_user_comes_back_as_added(self, database: Database, now: datetime) -> None:
        user = a_user(now, epoch=7, must_change_password=True, blocked=True)
        with database.writing() as work:
            assert work.users.add(user, hash=HASH, kinds=BOTH) == replace(user, has_password=True)
        with database.reading() as work:
            assert work.users.get(user.id) == replace(user, has_password=True)
            assert work.users.hash_of(user.id) == HASH

    def test_a_user_with_nothing_optional_comes_back_as_added(self, database: Database, now: datetime) -> None:
        user = User(UserId("u"), LIVE, now, now)
        with database.writing() as work:
            assert work.users.add(user) == user
        with database.reading() as work:
            assert work.users.get(user.id) == user
            assert work.users.hash_of(user.id) is None

    def test_nobody_is_none(self, database: Database) -> None:
        with database.reading() as work:
            assert work.users.get(BOB) is None
            assert work.users.get(UserId("\0")) is None
            assert work.users.hash_of(BOB) is None
            assert work.users.identities(BOB) == []

    @pytest.mark.parametrize("typed", ["ada", "ADA", " Ada ", "ada@acme.example", "Ada@ACME.example"])
    def test_a_user_is_found_by_what_they_type(
        self, database: Database, now: datetime, ada: UserId, typed: str
    ) -> None:
        with database.reading() as work:
            found = work.users.find(LIVE, USERS, typed)
        assert found == Credentials(a_user(now, has_password=True), HASH)

    @pytest.mark.parametrize(
        "typed",
        [
            "",
            "ad",
            "adaa",
            "ada%",
            "_da",
            "ada@acme.exampl",
            "ada@",
            "@acme.example",
            "a\0da",
            "\ud800",
            "ada,bob",
            "ada@acme.example,eve@evil.example",
            "ada@acme.example\neve@evil.example",
            "ᴬda",
            "x" * 10_000,
        ],
    )
    def test_nobody_is_found_by_anything_else(self, database: Database, ada: UserId, typed: str) -> None:
        with database.reading() as work:
            assert work.users.find(LIVE, USERS, typed) is None
            assert work.users.find_by_email(LIVE, typed) == []
            assert work.users.find_by_username(LIVE, typed) == []

    def test_nobody_is_found_in_another_directory_or_connection(self, database: Database, ada: UserId) -> None:
        with database.reading() as work:
            assert work.users.find(DEV, USERS, "ada") is None
            assert work.users.find(LIVE, OTHER, "ada") is None
            assert work.users.find_by_email(DEV, "ada@acme.example") == []
            assert work.users.find_by_username(DEV, "ada") == []

    def test_only_the_kinds_that_are_asked_for_are_found(self, database: Database, ada: UserId) -> None:
        with database.reading() as work:
            assert work.users.find(LIVE, USERS, "ada", ("email",)) is None
            assert work.users.find(LIVE, USERS, "ada@acme.example", ("username",)) is None
            assert work.users.find(LIVE, USERS, "ada", ("username",)) is not None

    def test_only_the_kinds_that_were_named_sign_somebody_in(self, database: Database, now: datetime) -> None:
        with database.writing() as work:
            work.users.add(a_user(now), hash=HASH, kinds=("username",))
        with database.reading() as work:
            assert work.users.find(LIVE, USERS, "ada") is not None
            assert work.users.find(LIVE, USERS, "ada@acme.example") is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"email": "ADA@acme.EXAMPLE"},
            {"username": "aDA", "email": None},
            {"email": "Ada@Acme.example", "username": None},
        ],
        ids=str,
    )
    def test_an_identifier_is_given_once_and_a_refusal_changes_nothing(
        self, database: Database, now: datetime, ada: UserId, changes: dict[str, Any]
    ) -> None:
        with pytest.raises(IdentifierTaken), database.writing() as work:
            work.users.add(a_user(now, "eve", **changes), kinds=BOTH)
        with database.reading() as work:
            assert work.users.get(UserId("user-eve")) is None

    def test_another_directory_or_connection_has_identifiers_of_its_own(
        self, database: Database, now: datetime, ada: UserId
    ) -> None:
        with database.writing() as work:
            work.users.add(a_user(now, id=UserId("dev"), directory=DEV), kinds=BOTH)
            work.users.add(a_user(now, id=UserId("partner"), connection=OTHER), kinds=BOTH)
        with database.reading() as work:
            for directory, connection, id in ((LIVE, USERS, ada), (DEV, USERS, "dev"), (LIVE, OTHER, "partner")):
                found = work.users.find(directory, connection, "ada")
                assert found is not None
                assert found.user.id == id

    def test_a_contact_address_may_be_of_many_and_the_oldest_comes_first(
        self, database: Database, now: datetime, ada: UserId
    ) -> None:
        with database.writing() as work:
            for number in range(3):
                work.users.add(
                    a_federated_user(
                        now - HOUR * number, f"fed{number}", email="ADA@acme.example", email_verified=False
                    )
                )
        with database.reading() as work:
            found = work.users.find_by_email(LIVE, "ada@Acme.example")
        assert [user.id for user in found][:2] == ["user-fed2", "user-fed1"]
        assert {user.id for user in found[2:]} == {"user-fed0", ada}

    @pytest.mark.parametrize("changes", [{"email": "not an address"}, {"username": "a@b.example"}, {"username": "\0"}])
    def test_what_is_no_identifier_is_not_stored(
        self, database: Database, now: datetime, changes: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidIdentifier), database.writing() as work:
            work.users.add(a_user(now, **changes))
        with database.reading() as work:
            assert work.users.get(UserId("user-ada")) is None

    def test_kinds_are_known_and_belong_to_a_database_connection(self, database: Database, now: datetime) -> None:
        with pytest.raises(ValueError, match="phone"), database.writing() as work:
            work.users.add(a_user(now), kinds=("phone",))
        with pytest.raises(ValueError, match="connection"), database.writing() as work:
            work.users.add(a_federated_user(now), kinds=("email",))

    def test_a_naive_time_is_refused(self, database: Database, now: datetime) -> None:
        with pytest.raises(Exception, match="naive"), database.writing() as work:
            work.users.add(a_user(now.replace(tzinfo=None)))
        with database.reading() as work:
            assert work.users.get(UserId("user-ada")) is None

    def test_a_change_is_written_with_its_time(self, database: Database, clock: FixedClock, ada: UserId) -> None:
        then, now = clock.now(), clock.advance(HOUR)
        with database.writing() as work:
            changed = work.users.update(ada, lambda user: replace(user, blocked=True, profile={"name": "A"}))
        assert changed == a_user(then, blocked=True, has_password=True, profile={"name": "A"}, updated_at=now)
        with database.reading() as work:
            assert work.users.get(ada) == changed

    def test_a_change_of_nothing_is_no_change(self, database: Database, clock: FixedClock, ada: UserId) -> None:
        then, _ = clock.now(), clock.advance(HOUR)
        with database.writing() as work:
            assert work.users.update(ada, lambda user: user).updated_at == then

    def test_identifiers_follow_a_change_of_name_and_address(
        self, database: Database, now: datetime, ada: UserId
    ) -> None:
        with database.writing() as work:
            work.users.update(ada, lambda user: replace(user, username="Countess", email="al@new.example"))
        with database.writing() as work:
            for gone in ("ada", "ada@acme.example"):
                assert work.users.find(LIVE, USERS, gone) is None
            for new in ("countess", "AL@new.example"):
                assert work.users.find(LIVE, USERS, new) is not None
            assert [user.id for user in work.users.find_by_username(LIVE, "COUNTESS")] == [ada]
            assert [user.id for user in work.users.find_by_email(LIVE, "al@new.example")] == [ada]
            assert work.users.find_by_email(LIVE, "ada@acme.example") == []
            # What was let go is free for somebody else.
            work.users.add(a_user(now, "eve", email="ada@acme.example"), kinds=BOTH)

    def test_a_name_that_comes_later_signs_in_too_if_its_kind_does(self, database: Database, now: datetime) -> None:
        with database.writing() as work:
            work.users.add(a_user(now, username=None), kinds=BOTH)
            work.users.add(a_user(now, "bob", username=None), kinds=("email",))
            for id, name in (("user-ada", "one"), ("user-bob", "two")):
                work.users.update(UserId(id), lambda user, name=name: replace(user, username=name))  # type: ignore[misc]
            assert work.users.find(LIVE, USERS, "one") is not None
            assert work.users.find(LIVE, USERS, "two") is None

    def test_a_change_cannot_take_what_is_somebody_elses(self, database: Database, now: datetime, ada: UserId) -> None:
        with database.writing() as work:
            work.users.add(a_user(now, "bob"), kinds=BOTH)
        with database.writing() as work:
            with pytest.raises(IdentifierTaken):
                work.users.update(BOB, lambda user: replace(user, username="aDa", blocked=True))
            work.audit.write(an_event(now))
        with database.reading() as work:
            assert work.users.get(BOB) == a_user(now, "bob")
            found = work.users.find(LIVE, USERS, "bob")
            assert found is not None
            assert found.user.id == BOB

    @pytest.mark.parametrize(
        "changes",
        [{"id": "x"}, {"directory": DEV}, {"epoch": 9}, {"has_password": False}, {"must_change_password": False}],
        ids=str,
    )
    def test_a_change_cannot_touch_what_has_a_way_of_its_own(
        self, database: Database, now: datetime, ada: UserId, changes: dict[str, Any]
    ) -> None:
        with database.writing() as work:
            marked = work.users.update(ada, lambda user: replace(user, must_change_password=True))
        with pytest.raises(ValueError, match=next(iter(changes))), database.writing() as work:
            work.users.update(ada, lambda user: replace(user, **changes))
        with database.reading() as work:
            assert work.users.get(ada) == marked

    def test_what_is_done_to_nobody_raises(self, database: Database, now: datetime) -> None:
        with database.writing() as work:
            with pytest.raises(LookupError):
                work.users.update(BOB, lambda user: user)
            with pytest.raises(LookupError):
                work.users.write_hash(BOB, HASH, must_change=False, at=now)
            with pytest.raises(LookupError):
                work.users.move_epoch(BOB)
            with pytest.raises(LookupError):
                work.users.link(BOB, LIVE, an_identity(now), now)
            assert work.users.rehash(BOB, HASH, "new") is False
            work.users.delete(BOB)

    def test_a_password_is_written_with_whether_it_must_be_changed(
        self, database: Database, clock: FixedClock, ada: UserId
    ) -> None:
        later = clock.advance(HOUR)
        for must_change in (True, False):
            with database.writing() as work:
                work.users.write_hash(ada, "hash", must_change=must_change, at=later)
                user = work.users.get(ada)
                assert user is not None
                assert (user.must_change_password, user.has_password, user.updated_at) == (must_change, True, later)
                assert work.users.hash_of(ada) == "hash"

    def test_a_stronger_hash_replaces_only_the_one_it_was_made_for(self, database: Database, ada: UserId) -> None:
        with database.writing() as work:
            assert work.users.rehash(ada, "another", "new") is False
            assert work.users.hash_of(ada) == HASH
            assert work.users.rehash(ada, HASH, "new") is True
            assert work.users.hash_of(ada) == "new"

    def test_the_epoch_moves_by_one_and_no_move_is_lost(self, database: Database, ada: UserId) -> None:
        def move(_: int) -> int:
            with database.writing() as work:
                return work.users.move_epoch(ada)

        assert sorted(race(move, callers=8)) == list(range(1, 9))

    def test_of_two_who_take_one_identifier_at_once_one_gets_it(self, database: Database, now: datetime) -> None:
        for turn in range(10):

            def add(number: int, turn: int = turn) -> bool:
                user = a_user(now, f"u{turn}", id=UserId(f"{turn}-{number}"))
                try:
                    with database.writing() as work:
                        work.users.add(user, kinds=BOTH)
                except IdentifierTaken:
                    return False
                return True

            assert sorted(race(add, callers=2)) == [False, True]
            with database.reading() as work:
                assert len(work.users.find_by_username(LIVE, f"u{turn}")) == 1


class IdentitiesContract(Stored):
    """Who signs in upstream."""

    def test_people_without_another_way_in_are_counted(self, database: Database, now: datetime, ada: UserId) -> None:
        def count(going: list[ConnectionId], staying: list[ConnectionId], limit: int = 9) -> int:
            with database.reading() as work:
                return work.users.only_by(LIVE, going, staying, limit)

        social = an_identity(now).connection
        with database.writing() as work:
            work.users.add(User(BOB, LIVE, now, now))
            work.users.link(BOB, LIVE, an_identity(now), now)
            work.users.link(ada, LIVE, an_identity(now, subject="ada"), now)
            work.users.add(User(UserId("elsewhere"), DEV, now, now))
            work.users.link(UserId("elsewhere"), DEV, an_identity(now), now)
        assert count([social], []) == 2
        assert count([social], [USERS]) == 1, "ada has a password, too"
        assert count([USERS], [social]) == 0
        assert count([USERS, social], []) == 2, "nobody twice"
        assert count([USERS, social], [], limit=1) == 1
        assert count([OTHER], [USERS]) == 0

    def test_an_identity_comes_back_as_linked(self, database: Database, now: datetime, ada: UserId) -> None:
        identity = an_identity(now)
        with database.writing() as work:
            work.users.link(ada, LIVE, identity, now)
        with database.reading() as work:
            assert work.users.identities(ada) == [identity]
            found = work.users.find_by_identity(LIVE, identity.connection, identity.issuer, identity.subject)
        assert found == a_user(now, has_password=True)

    def test_all_four_parts_and_every_letter_count(self, database: Database, now: datetime, ada: UserId) -> None:
        with database.writing() as work:
            work.users.link(ada, LIVE, an_identity(now, subject="abc"), now)
            one = an_identity(now, subject="abc")
            for directory, connection, issuer, subject in (
                (DEV, one.connection, one.issuer, "abc"),
                (LIVE, OTHER, one.issuer, "abc"),
                (LIVE, one.connection, one.issuer + "/", "abc"),
                (LIVE, one.connection, one.issuer, "ABC"),
                (LIVE, one.connection, one.issuer, "abc\0"),
                (LIVE, one.connection, one.issuer, "\ud800"),
                (LIVE, one.connection, one.issuer, ""),
            ):
                assert work.users.find_by_identity(directory, connection, issuer, subject) is None

    def test_linking_again_refreshes_what_the_upstream_says(
        self, database: Database, clock: FixedClock, ada: UserId
    ) -> None:
        first = an_identity(clock.now())
        second = an_identity(clock.advance(HOUR), claims={"email": "new@acme.example"}, private={}, acr=None)
        with database.writing() as work:
            work.users.link(ada, LIVE, first, clock.now())
            work.users.link(ada, LIVE, second, clock.now())
            assert work.users.identities(ada) == [second]

    def test_an_identity_belongs_to_one_person(self, database: Database, now: datetime, ada: UserId) -> None:
        with database.writing() as work:
            work.users.add(a_user(now, "bob"))
            work.users.link(ada, LIVE, an_identity(now), now)
            with pytest.raises(IdentifierTaken):
                work.users.link(BOB, LIVE, an_identity(now, claims={}), now)
            assert work.users.identities(BOB) == []
            assert work.users.identities(ada) == [an_identity(now)]

    def test_of_two_who_are_linked_to_one_identity_at_once_one_gets_it(self, database: Database, now: datetime) -> None:
        with database.writing() as work:
            for number in range(4):
                work.users.add(a_federated_user(now, f"u{number}"))

        def link(number: int) -> bool:
            try:
                with database.writing() as work:
                    work.users.link(UserId(f"user-u{number}"), LIVE, an_identity(now), now)
            except IdentifierTaken:
                return False
            return True

        assert race(link, callers=4).count(True) == 1

    def test_an_identity_is_linked_in_the_users_own_directory(
        self, database: Database, now: datetime, ada: UserId
    ) -> None:
        with pytest.raises(LookupError), database.writing() as work:
            work.users.link(ada, DEV, an_identity(now), now)

    @pytest.mark.parametrize("subject", ["", "a\0b", "\ud800"])
    def test_a_subject_that_not_every_engine_can_keep_is_refused(
        self, database: Database, now: datetime, ada: UserId, subject: str
    ) -> None:
        with pytest.raises(InvalidIdentifier), database.writing() as work:
            work.users.link(ada, LIVE, an_identity(now, subject=subject), now)

    def test_several_come_in_the_order_of_their_linking(self, database: Database, now: datetime, ada: UserId) -> None:
        with database.writing() as work:
            for number, subject in enumerate(("c", "a", "b")):
                work.users.link(ada, LIVE, an_identity(now, subject=subject), now + HOUR * number)
            assert [one.subject for one in work.users.identities(ada)] == ["c", "a", "b"]


class DirectoryContract(Stored):
    """Many people: searching, paging, deleting."""

    @pytest.fixture
    def people(self, database: Database, now: datetime) -> list[User]:
        names = ("ada", "adam", "bob", "Łukasz", "100%", "a_b")
        with database.writing() as work:
            for name in names:
                address = f"{'l' if name == 'Łukasz' else name.replace('%', '')}@acme.example"
                work.users.add(a_user(now, name, email=address), kinds=BOTH)
            work.users.add(a_user(now, "ada", id=UserId("dev-ada"), directory=DEV), kinds=BOTH)
            return list(work.users.each(LIVE))

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("ada", {"user-ada", "user-adam"}),
            ("ADAM", {"user-adam"}),
            ("adam@ACME", {"user-adam"}),
            ("łukasz ł", {"user-Łukasz"}),
            ("user-bob", {"user-bob"}),
            ("%", set()),
            ("100%", {"user-100%"}),
            ("a_", {"user-a_b"}),
            ("da", set()),
            ("", set()),
            ("  ", set()),
            ("\0", set()),
            ("dev-ada", set()),
        ],
    )
    def test_people_are_found_by_how_they_start(
        self, database: Database, people: list[User], text: str, found: set[str]
    ) -> None:
        with database.reading() as work:
            assert {user.id for user in work.users.search(LIVE, text)} == found

    def test_a_search_ends_at_its_limit(self, database: Database, people: list[User]) -> None:
        with database.reading() as work:
            assert len(work.users.search(LIVE, "a", limit=2)) == 2

    def test_pages_hold_everybody_of_one_directory_once(self, database: Database, people: list[User]) -> None:
        assert len(people) == 6
        for size in (1, 2, 6, 7):
            seen: list[User] = []
            while True:
                with database.reading() as work:
                    page = list(work.users.each(LIVE, after=seen[-1].id if seen else None, limit=size))
                assert len(page) <= size
                if not page:
                    break
                seen += page
            assert seen == people
            assert {user.directory for user in seen} == {LIVE}

    def test_deleting_somebody_removes_all_that_refers_to_them_but_the_audit(
        self, database: Database, now: datetime, ada: UserId
    ) -> None:
        shop, identity = ClientId("shop"), an_identity(now)
        with database.writing() as work:
            work.users.link(ada, LIVE, identity, now)
            secret = work.tickets.issue(a_ticket(now))
            work.consents.grant(ada, shop, frozenset({"openid"}), now)
            work.audit.write(an_event(now))
        with database.writing() as work:
            work.users.delete(ada)
        with database.writing() as work:
            assert work.users.get(ada) is None
            assert work.users.find(LIVE, USERS, "ada") is None
            assert work.users.identities(ada) == []
            assert work.users.find_by_identity(LIVE, identity.connection, identity.issuer, identity.subject) is None
            assert work.tickets.look(secret) is None
            assert work.consents.granted(ada, shop) == frozenset()
            assert work.audit.read(LIVE, target=ada) == [an_event(now)]
            # And the name is free again.
            work.users.add(a_user(now, id=UserId("another")), kinds=BOTH)
