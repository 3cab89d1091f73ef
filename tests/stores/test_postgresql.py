"""What is PostgreSQL's own: round trips, connections that break, limits, and addresses with passwords in them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from broker.core.errors import Unavailable
from broker.core.ports import UnitOfWork
from broker.core.values import UserId
from broker.stores.sql import SqlDatabase
from broker.stores.sql.engine import POSTGRESQL_CONNECTIONS, _connecting, parse_url
from broker.testing.clock import START, FixedClock
from broker.testing.race import race
from broker.testing.records import BOTH, HASH, LIVE, USERS, a_user
from tests.postgresql import Postgres, shared
from tests.sql_engines import opened, ready_database

ADA = UserId("user-ada")


class Proxy:
    """Stands between us and PostgreSQL, counts how often an answer was waited for, and can cut a connection off."""

    def __init__(self, server: Postgres) -> None:
        self._target = server.socket
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.round_trips = 0
        self.connections = 0
        self.cut = threading.Event()
        """Set: whoever sends next is cut off. What was sent does not arrive."""
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, url: str) -> str:
        name = url.partition("@/")[2].partition("?")[0]
        port = self._listener.getsockname()[1]
        return f"postgresql://homerealm@127.0.0.1:{port}/{name}?gssencmode=disable&sslmode=disable"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                upstream = socket.socket(socket.AF_UNIX)
                try:
                    upstream.connect(str(self._target))
                except OSError:  # nobody there; the proxy stays
                    upstream.close()
                    client.close()
                    continue
                state = {"established": False}
                for source, sink, answers in ((client, upstream, False), (upstream, client, True)):
                    threading.Thread(target=self._pump, args=(source, sink, answers, state), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool, state: dict[str, bool]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if answers and data[-6:-1] == b"Z\0\0\0\5":  # ReadyForQuery
                    self.round_trips += state["established"]
                    state["established"] = True
                if not answers and state["established"] and self.cut.is_set():
                    self.cut.clear()
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy(shared())
    yield proxy
    proxy.close()


@pytest.fixture
def database(proxy: Proxy, tmp_path: Path) -> Iterator[SqlDatabase]:
    database = opened(proxy.url(ready_database("postgresql", tmp_path)), FixedClock(), upgrade=False)
    with database.writing() as work:
        work.users.add(a_user(START), hash=HASH, kinds=BOTH)
    yield database
    database.close()


def read(database: SqlDatabase) -> str | None:
    with database.asking() as work:
        found = work.users.find(LIVE, USERS, "ada")
    return None if found is None else found.hash


def view(database: SqlDatabase) -> str | None:
    with database.reading() as work:
        return work.users.hash_of(ADA)


def move(database: SqlDatabase) -> int:
    with database.writing() as work:
        return work.users.move_epoch(ADA)


def test_a_question_is_one_round_trip(proxy: Proxy, database: SqlDatabase) -> None:
    for _ in range(10):
        read(database)  # the sixth time it is prepared
    before = proxy.round_trips
    assert read(database) == HASH
    assert proxy.round_trips == before + 1


def test_a_view_and_a_change_are_one_more_to_begin_and_one_to_end(proxy: Proxy, database: SqlDatabase) -> None:
    for _ in range(10):
        view(database)
        move(database)
    before = proxy.round_trips
    view(database)
    assert proxy.round_trips == before + 3
    move(database)
    assert proxy.round_trips == before + 3 + 4, "the epoch is moved, and read"


@pytest.mark.parametrize("use", [read, view, move])
def test_a_connection_that_breaks_unseen_costs_nobody_anything(
    proxy: Proxy, database: SqlDatabase, use: Callable[[SqlDatabase], object]
) -> None:
    """A firewall forgot it: nothing tells, until something is sent."""
    use(database)
    proxy.cut.set()
    opened = proxy.connections
    assert use(database) in (HASH, 2)
    assert proxy.connections == opened + 1
    assert not proxy.cut.is_set()


def test_a_change_whose_connection_breaks_in_the_middle_is_refused_and_not_done(
    proxy: Proxy, database: SqlDatabase
) -> None:
    with pytest.raises(Unavailable), database.writing() as work:  # noqa: PT012  the last line is the one that raises
        work.users.move_epoch(ADA)
        proxy.cut.set()
        work.users.write_hash(ADA, "lost", must_change=False, at=START)
    assert read(database) == HASH
    assert move(database) == 1


def test_a_server_that_is_only_read_from_is_left_and_not_taken_again(database: SqlDatabase, proxy: Proxy) -> None:
    """A standby answers every question, from behind; whoever was led there stays until somebody wants to write."""
    assert move(database) == 1
    with database._engines.writer.connect() as connection:
        connection.exec_driver_sql("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        connection.commit()
    with pytest.raises(Unavailable):
        move(database)
    assert move(database) == 2
    name = database._engines.url.database
    with database._engines.writer.connect() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        connection.commit()
    try:
        database._engines.writer.dispose()
        with pytest.raises(Unavailable, match="read-only"):
            read(database)
    finally:
        with psycopg.connect(proxy.url(f"postgresql://homerealm@/{name}"), autocommit=True) as connection:
            connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
            connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert move(database) == 3


def test_a_machine_that_vanishes_is_missed_within_seconds_and_an_operator_may_say_otherwise(proxy: Proxy) -> None:
    """The kernel waits for a quarter of an hour for what was sent, and for two hours where nothing was."""
    url = parse_url("postgresql://homerealm@db.internal/homerealm?tcp_user_timeout=60000&target_session_attrs=any")
    assert _connecting(url, 10) == {
        "autocommit": True, "connect_timeout": 10, "keepalives_idle": 5, "keepalives_interval": 2,
        "keepalives_count": 3,
    }  # fmt: skip


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One that may be stopped."""
    server = Postgres()
    server.start()
    yield server
    server.remove()


@pytest.mark.crash
@pytest.mark.parametrize("kill", [False, True])
def test_after_a_restart_no_connection_of_before_makes_an_error(server: Postgres, kill: bool) -> None:
    database = opened(server.database(), FixedClock())
    with database.writing() as work:
        work.users.add(a_user(START), hash=HASH, kinds=BOTH)
    together = threading.Barrier(POSTGRESQL_CONNECTIONS // 2)

    def hold(_: int) -> None:
        with database.reading() as work:
            together.wait()
            assert work.users.get(ADA) is not None

    race(hold, POSTGRESQL_CONNECTIONS // 2)
    server.stop(kill=kill)
    for use in (read, view, move):
        with pytest.raises(Unavailable):
            use(database)
    server.start()
    done = race(lambda number: (read, view, move)[number % 3](database), 24)
    assert done.count(HASH) == 16
    assert sorted(one for one in done if isinstance(one, int)) == list(range(1, 9))
    database.close()


def test_more_callers_than_connections_wait_for_each_other(database: SqlDatabase, proxy: Proxy) -> None:
    assert race(lambda _: read(database), 64) == [HASH] * 64
    assert proxy.connections <= POSTGRESQL_CONNECTIONS


def test_whoever_gets_no_connection_in_time_is_told(proxy: Proxy, tmp_path: Path) -> None:
    from broker.testing.entropy import SeededEntropy
    from tests.sql_engines import VAULT

    url = proxy.url(ready_database("postgresql", tmp_path))
    database = SqlDatabase(url, FixedClock(), SeededEntropy(), VAULT, patience=0.5)
    with contextlib.ExitStack() as held:
        for _ in range(POSTGRESQL_CONNECTIONS):
            held.enter_context(database.reading())
        with pytest.raises(Unavailable):
            read(database)
    assert read(database) is None
    database.close()


def test_the_server_ends_what_hangs(database: SqlDatabase) -> None:
    with database._engines.writer.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "application_name")
        }
    assert found == {
        "lock_timeout": "10s",
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "1min",
        "application_name": "homerealm",
    }


def test_what_the_address_says_wins_over_our_limits(proxy: Proxy, tmp_path: Path) -> None:
    url = proxy.url(ready_database("postgresql", tmp_path))
    database = opened(url + "&options=-c%20statement_timeout%3D7s&application_name=ours", FixedClock(), upgrade=False)
    with database._engines.writer.connect() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "7s"
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "10s"
        assert connection.exec_driver_sql("SHOW application_name").scalar_one() == "ours"
    database.close()


@pytest.mark.parametrize(
    "where",
    [
        "127.0.0.1:1/x",
        "127.0.0.1:1/x?sslmode=verify-full&sslrootcert=/nowhere",
        "127.0.0.1:1/x?sslmode=nonsense",
        "127.0.0.1:1/x?no_such_option=1",
        "nowhere.invalid/x",
    ],
)
def test_no_error_quotes_the_password_of_the_address(where: str) -> None:
    database = opened(f"postgresql://homerealm:CANARY@{where}", FixedClock(), upgrade=False)
    for call in (database.ping, database.upgrade, database.revision, lambda: read(database)):
        with pytest.raises(Unavailable) as caught:
            call()
        error: BaseException | None = caught.value
        while error is not None:
            assert "CANARY" not in f"{error} {error!r}"
            error = error.__cause__ or error.__context__


def test_an_error_does_not_quote_the_row(database: SqlDatabase) -> None:
    def write(work: UnitOfWork) -> None:
        work.users.write_hash(ADA, "CANARY", must_change=None, at=START)  # type: ignore[arg-type]

    with pytest.raises(Exception) as caught, database.writing() as work:
        write(work)
    with pytest.raises(Unavailable) as refused, database.writing() as work, contextlib.suppress(type(caught.value)):
        write(work)
    assert "CANARY" not in str(refused.value)
    assert view(database) == HASH, "and whoever caught it has not committed the rest"
