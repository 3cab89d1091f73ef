"""What a store of logins in progress has to do (`broker.core.ports.Transactions` and `Logins`)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.errors import InvalidTransition, PageExpired
from broker.core.ports import Grants, Logins, Sessions, Transactions
from broker.core.transaction import Transaction
from broker.core.values import SessionId
from broker.testing.clock import FixedClock
from broker.testing.race import CALLERS, ROUNDS, race
from broker.testing.samples import a_grant, a_session, a_transaction, an_identified

MINUTE = timedelta(minutes=1)


class TransactionsContract:
    """Inherit, and give fixtures `transactions` (on an empty store) and `clock`, which it reads."""

    @pytest.fixture
    def transactions(self) -> Transactions:
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> FixedClock:
        return FixedClock()

    @pytest.fixture
    def opened(self, transactions: Transactions, clock: FixedClock) -> Transaction:
        transaction = a_transaction(clock.now())
        transactions.open(transaction)
        return transaction

    def test_what_was_opened_comes_back_equal(self, transactions: Transactions, clock: FixedClock) -> None:
        login = an_identified(a_transaction(clock.now()), clock.now()).pass_factor("otp").consent(("openid",))
        transactions.open(login)
        assert transactions.get(login.id, login.browser) == login

    def test_an_unknown_one_is_none(self, transactions: Transactions) -> None:
        for id in ("unknown", "", "\ud800", "}{", "x" * 100_000):
            assert transactions.get(id, "browser-digest") is None

    def test_another_browser_does_not_see_it(self, transactions: Transactions, opened: Transaction) -> None:
        for browser in ("another", "", "\ud800", opened.browser + "x"):
            assert transactions.get(opened.id, browser) is None

    def test_it_is_gone_when_its_time_is_over(
        self, transactions: Transactions, opened: Transaction, clock: FixedClock
    ) -> None:
        clock.advance(timedelta(hours=2) - timedelta(microseconds=1))
        assert transactions.get(opened.id, opened.browser) == opened
        clock.advance(timedelta(microseconds=1))
        assert transactions.get(opened.id, opened.browser) is None
        assert not transactions.save(opened, opened.note("late"))
        assert not transactions.close(opened)

    def test_save_writes_when_nobody_was_faster(self, transactions: Transactions, opened: Transaction) -> None:
        first, second = opened.note("first"), opened.note("second")
        assert transactions.save(opened, first)
        assert not transactions.save(opened, second)
        assert transactions.get(opened.id, opened.browser) == first

    def test_save_never_brings_back_one_that_is_gone(self, transactions: Transactions, clock: FixedClock) -> None:
        never = a_transaction(clock.now(), "never-opened")
        assert not transactions.save(never, never.note("x"))
        assert transactions.get(never.id, never.browser) is None

    def test_advance_applies_the_move_to_the_newest_value(
        self, transactions: Transactions, opened: Transaction
    ) -> None:
        race(lambda n: transactions.advance(opened.id, opened.browser, lambda one: one.note(f"{one.notice or ''}{n},")))
        stored = transactions.get(opened.id, opened.browser)
        assert stored is not None
        assert stored.version == opened.version + CALLERS
        assert sorted((stored.notice or "").split(",")) == sorted(["", *map(str, range(CALLERS))])

    def test_advance_raises_what_the_move_raises_and_changes_nothing(
        self, transactions: Transactions, opened: Transaction
    ) -> None:
        with pytest.raises(InvalidTransition):
            transactions.advance(opened.id, opened.browser, lambda one: one.select())
        assert transactions.get(opened.id, opened.browser) == opened

    def test_advance_of_one_that_is_gone_or_anothers_is_an_expired_page(
        self, transactions: Transactions, opened: Transaction
    ) -> None:
        for id, browser in (("unknown", opened.browser), (opened.id, "another")):
            with pytest.raises(PageExpired):
                transactions.advance(id, browser, lambda one: one.note("x"))

    def test_a_closed_one_says_so_and_keeps_nothing_of_the_login(
        self, transactions: Transactions, opened: Transaction
    ) -> None:
        assert transactions.close(opened)
        grave = transactions.get(opened.id, opened.browser)
        assert grave is not None
        assert grave.finished
        assert (grave.tenant, grave.client, grave.request, grave.upstream) == ("acme", "shop", {}, None)
        assert transactions.get(opened.id, "another") is None

    def test_a_closed_one_takes_no_step_any_more(self, transactions: Transactions, opened: Transaction) -> None:
        transactions.close(opened)
        assert not transactions.close(opened)
        assert not transactions.save(opened, opened.note("x"))
        with pytest.raises(InvalidTransition):
            transactions.advance(opened.id, opened.browser, lambda one: one.note("x"))

    def test_of_32_who_close_one_wins(self, transactions: Transactions, clock: FixedClock) -> None:
        for number in range(ROUNDS):
            transaction = a_transaction(clock.now(), f"closing-{number}")
            transactions.open(transaction)
            assert sum(race(lambda _, one=transaction: transactions.close(one))) == 1  # type: ignore[misc]

    def test_of_32_who_save_the_same_move_one_wins(self, transactions: Transactions, clock: FixedClock) -> None:
        for number in range(ROUNDS):
            before = a_transaction(clock.now(), f"saving-{number}")
            transactions.open(before)
            after = before.note("the same")
            assert sum(race(lambda _, b=before, a=after: transactions.save(b, a))) == 1  # type: ignore[misc]


class LoginsContract:
    """Inherit, and give fixtures `logins`, `transactions`, `sessions`, `grants` on one store, and `clock`."""

    @pytest.fixture
    def clock(self) -> FixedClock:
        return FixedClock()

    @pytest.fixture
    def logins(self) -> Logins:
        raise NotImplementedError

    @pytest.fixture
    def transactions(self) -> Transactions:
        raise NotImplementedError

    @pytest.fixture
    def sessions(self) -> Sessions:
        raise NotImplementedError

    @pytest.fixture
    def grants(self) -> Grants:
        raise NotImplementedError

    @pytest.fixture
    def login(self, clock: FixedClock) -> Transaction:
        return an_identified(a_transaction(clock.now()), clock.now())

    def test_a_login_ends_with_a_session_and_a_code(
        self, logins: Logins, transactions: Transactions, sessions: Sessions, grants: Grants, login: Transaction,
        clock: FixedClock,
    ) -> None:  # fmt: skip
        transactions.open(login)
        session, grant, code = a_session(clock.now()), a_grant(clock.now()), logins.new_code(login)
        secret = sessions.secret_for(session.id, "random")
        assert logins.finish(
            login.finish(), session=session, session_secret=secret, code=code, grant=grant, stored=True,
            code_lifetime=MINUTE,
        )  # fmt: skip
        assert sessions.get(secret) == session
        assert sessions.of(session.user) == [session]
        assert grants.redeem_code(code) == grant
        grave = transactions.get(login.id, login.browser)
        assert grave is not None
        assert grave.finished

    def test_a_login_that_was_never_stored_leaves_no_tombstone(
        self, logins: Logins, transactions: Transactions, sessions: Sessions, grants: Grants, login: Transaction,
        clock: FixedClock,
    ) -> None:  # fmt: skip
        session, grant, code = a_session(clock.now()), a_grant(clock.now()), logins.new_code(login)
        assert logins.finish(
            login.finish(), session=session, session_secret=sessions.secret_for(session.id, "r"), code=code,
            grant=grant, stored=False, code_lifetime=MINUTE,
        )  # fmt: skip
        assert transactions.get(login.id, login.browser) is None
        assert grants.redeem_code(code) == grant

    def test_a_code_is_refused_when_its_time_is_over(
        self, logins: Logins, sessions: Sessions, grants: Grants, login: Transaction, clock: FixedClock
    ) -> None:
        session, code = a_session(clock.now()), logins.new_code(login)
        logins.finish(
            login.finish(), session=session, session_secret=sessions.secret_for(session.id, "r"), code=code,
            grant=a_grant(clock.now()), stored=False, code_lifetime=MINUTE,
        )  # fmt: skip
        clock.advance(MINUTE)
        assert grants.redeem_code(code) is None

    def test_of_32_who_finish_one_wins_and_only_its_code_counts(
        self, logins: Logins, transactions: Transactions, sessions: Sessions, grants: Grants, clock: FixedClock
    ) -> None:
        for number in range(ROUNDS):
            login = an_identified(a_transaction(clock.now(), f"finishing-{number}"), clock.now())
            transactions.open(login)
            codes = [logins.new_code(login) for _ in range(CALLERS)]
            browsers = [a_session(clock.now(), f"browser-{number}-{n}") for n in range(CALLERS)]
            secrets = [sessions.secret_for(one.id, "random") for one in browsers]
            grant = a_grant(clock.now(), login.id)

            def finish(n: int, login=login, codes=codes, browsers=browsers, secrets=secrets, grant=grant) -> bool:  # type: ignore[no-untyped-def]
                return logins.finish(
                    login.finish(), session=browsers[n], session_secret=secrets[n], code=codes[n], grant=grant,
                    stored=True, code_lifetime=MINUTE,
                )  # fmt: skip

            won = race(finish)
            assert sum(won) == 1
            assert [sessions.get(secret) is not None for secret in secrets] == won
            assert [grants.redeem_code(code) == grant for code in codes] == won

    def test_a_finished_or_forgotten_login_changes_nothing(
        self, logins: Logins, transactions: Transactions, sessions: Sessions, grants: Grants, login: Transaction,
        clock: FixedClock,
    ) -> None:  # fmt: skip
        session, code = a_session(clock.now()), logins.new_code(login)
        secret = sessions.secret_for(session.id, "random")
        transactions.open(replace(login, id="closed"))  # type: ignore[arg-type]
        transactions.close(replace(login, id="closed"))  # type: ignore[arg-type]
        assert not logins.finish(
            login.finish(), session=session, session_secret=secret, code=code, grant=a_grant(clock.now()),
            stored=True, code_lifetime=MINUTE,
        )  # fmt: skip
        closed = replace(login.finish(), id="closed")  # type: ignore[arg-type]
        assert not logins.finish(
            closed, session=session, session_secret=secret, code=None, grant=None, stored=True, code_lifetime=MINUTE
        )
        assert sessions.get(secret) is None
        assert grants.redeem_code(code) is None

    def test_a_kept_session_that_was_signed_out_meanwhile_stays_signed_out(
        self, logins: Logins, sessions: Sessions, grants: Grants, clock: FixedClock
    ) -> None:
        session = a_session(clock.now())
        secret = sessions.secret_for(session.id, "random")
        login = a_transaction(clock.now(), identity=session.identity, user=session.user, session=session.id)
        sessions.open(session, secret)
        code, wider = logins.new_code(login), replace(session, clients=(*session.clients, "wiki"))  # type: ignore[arg-type]
        assert logins.finish(
            login.finish(), session=wider, session_secret=secret, code=None, grant=None, stored=False,
            code_lifetime=MINUTE,
        )  # fmt: skip
        assert sessions.get(secret) == wider
        sessions.close(session.id)
        assert not logins.finish(
            login.finish(), session=wider, session_secret=secret, code=code, grant=a_grant(clock.now()), stored=False,
            code_lifetime=MINUTE,
        )  # fmt: skip
        assert sessions.get(secret) is None
        assert sessions.find(SessionId(session.id)) is None
        assert grants.redeem_code(code) is None

    def test_a_renewed_session_has_a_new_secret_and_the_old_one_is_dead(
        self, logins: Logins, sessions: Sessions, login: Transaction, clock: FixedClock
    ) -> None:
        session = a_session(clock.now())
        old, new = sessions.secret_for(session.id, "old"), sessions.secret_for(session.id, "new")
        sessions.open(session, old)
        assert logins.finish(
            login.finish(), session=session, session_secret=new, code=None, grant=None, stored=False,
            code_lifetime=MINUTE,
        )  # fmt: skip
        assert sessions.get(old) is None
        assert sessions.get(new) == session
        assert sessions.of(session.user) == [session]

    def test_a_code_without_its_own_grant_is_refused(
        self, logins: Logins, sessions: Sessions, login: Transaction, clock: FixedClock
    ) -> None:
        session = a_session(clock.now())
        for code, grant in (
            (logins.new_code(login), None),
            (None, a_grant(clock.now())),
            (logins.new_code(login), a_grant(clock.now(), "another")),
        ):
            with pytest.raises(ValueError):
                logins.finish(
                    login.finish(), session=session, session_secret=sessions.secret_for(session.id, "r"), code=code,
                    grant=grant, stored=False, code_lifetime=MINUTE,
                )  # fmt: skip
