"""How often a request asks the database and the key-value store: what decides how fast it can be, on any machine.

Counted by the real engines. A number may fall; whoever raises one says why (docs/decisions/hot-paths.md).
"""

from __future__ import annotations

import gc
import re
import sys
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event
from sqlalchemy.pool import Pool

from broker.stores.kv.embedded import EmbeddedValkey
from broker.stores.kv.redis import RedisKeyValue
from broker.stores.kv.stories import KvStories
from broker.testing.clock import START
from broker.testing.records import a_job
from broker.testing.town import ACME, PASSWORD, Town

VERIFIER = "v" * 50
BASIC = {"Authorization": "Basic " + b64encode(b"demo:demo-app-secret-91f0c6d3").decode()}
CALLBACK = "https://app.test/callback/acme"
ASKED = {
    "response_type": "code",
    "client_id": "demo",
    "redirect_uri": CALLBACK,
    "scope": "openid email offline_access",
    "state": "s",
    "nonce": "n",
    "code_challenge": urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode(),
    "code_challenge_method": "S256",
}


@dataclass
class Visits:
    """A browser without pictures, which counts what each of its requests costs."""

    client: FlaskClient
    key_values: RedisKeyValue
    cost: tuple[int, int] = (0, 0)
    """Statements and round trips of the last request."""
    calls: int = 0
    """Of functions, Python's and C's, in the thread of the last request."""

    def send(self, method: str, path: str, status: int, **how: Any) -> Any:
        STATEMENTS.clear()
        CALLS.clear()
        before = self._round_trips()
        answer = self.client.open(f"/t/acme{path}", method=method, base_url="https://login.test", **how)
        assert answer.status_code == status, answer.text
        self.cost = len(STATEMENTS), self._round_trips() - before - 1  # one is the question itself
        self.calls = len(CALLS)
        return answer

    def _round_trips(self) -> int:
        """How often Valkey has read from a connection; what one `batch` or script does is read at once."""
        told = self.key_values.batch([("INFO", "stats")])[0].decode()
        return int(re.findall(r"total_reads_processed:(\d+)", told)[0])

    def first_page(self, client: str = "demo") -> str:
        return str(self.send("GET", f"/authorize?{urlencode(ASKED | {'client_id': client})}", 200).text)

    def submit(self, html: str, action: str, status: int = 303, **fields: str) -> Any:
        form = html.partition(f'action="/t/acme{action}"')[2].partition("</form>")[0]
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
        return self.send("POST", action, status, data=hidden | fields)

    def password_page(self, username: str = "ada") -> str:
        answer = self.submit(self.first_page(), "/login", username=username)
        place = urlsplit(answer.headers["Location"])
        return str(self.send("GET", f"{place.path.removeprefix('/t/acme')}?{place.query}", 200).text)

    def code(self) -> str:
        answer = self.submit(self.password_page(), "/login/password", username="ada", password=PASSWORD)
        return parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]

    def token(self, **form: str) -> dict[str, str]:
        return dict(self.send("POST", "/token", 200, data=form, headers=BASIC).json)

    def tokens(self) -> dict[str, str]:
        return self.token(
            grant_type="authorization_code", code=self.code(), redirect_uri=CALLBACK, code_verifier=VERIFIER
        )


STATEMENTS: list[str] = []
"""What SQLite was asked since the last request began, told by SQLite itself."""


CALLS: list[None] = []


class Profiled:
    """The broker's WSGI application. What happens around it is the test client's."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        gc.disable()  # what it does for others' garbage is no call of ours
        sys.setprofile(lambda _frame, what, _: CALLS.append(None) if what in ("call", "c_call") else None)
        try:
            return self._app(environ, start_response)
        finally:
            sys.setprofile(None)
            gc.enable()


def listen(connection: Any, _: object) -> None:
    connection.set_trace_callback(
        lambda text: STATEMENTS.append(text) if text.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")) else None
    )


@contextmanager
def counted_town(tmp_path_factory: pytest.TempPathFactory, **files: str) -> Iterator[Town]:
    """A town whose statements and calls are counted; `files` as Town takes them."""
    event.listen(Pool, "connect", listen)
    servers = [EmbeddedValkey(tmp_path_factory.mktemp("kv")) for _ in range(2)]
    town = Town(tmp_path_factory.mktemp("town"), (servers[0].start(), servers[1].start()), **files)
    town.broker.add("acme", email="ada@acme.test", username="ada")
    town.broker.app.wsgi_app = Profiled(town.broker.app.wsgi_app)  # type: ignore[method-assign]
    yield town
    event.remove(Pool, "connect", listen)
    town.close()
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    acme = ACME.replace(
        "[authorization_code, refresh_token]", "[authorization_code, refresh_token, client_credentials]"
    )
    acme = acme.replace(
        "clients:\n", f"clients:\n  - {{client_id: only, redirect_uris: [{CALLBACK}], connections: [users]}}\n"
    )
    with counted_town(tmp_path_factory, acme=acme) as town:
        yield town


@pytest.fixture
def visits(town: Town) -> Iterator[Visits]:
    """A new visitor of a broker that has answered everything once: keys are parsed, scripts are loaded."""
    key_values = RedisKeyValue.connect(town.key_values[0])
    visits = Visits(town.broker.app.test_client(), key_values)

    before = Visits(town.broker.app.test_client(), key_values)
    before.token(grant_type="refresh_token", refresh_token=before.tokens()["refresh_token"])
    STATEMENTS.clear()
    yield visits
    key_values.close()


def test_what_is_public_costs_nothing(visits: Visits) -> None:
    for path in ("/.well-known/openid-configuration", "/jwks"):
        visits.send("GET", path, 200)
        assert visits.cost == (0, 0)


def test_a_client_that_acts_for_itself_costs_nothing(visits: Visits) -> None:
    visits.token(grant_type="client_credentials")
    assert visits.cost == (0, 0)


def test_the_first_page_is_one_write_to_the_key_value_store(visits: Visits) -> None:
    visits.first_page()
    assert visits.cost == (0, 1)


def test_an_identifier_is_read_and_kept_and_its_page_read(visits: Visits) -> None:
    visits.submit(visits.first_page(), "/login", username="ada")
    assert visits.cost == (0, 2)
    visits.password_page()
    assert visits.cost == (0, 1)


def test_a_right_password_is_two_reads_of_the_database(visits: Visits) -> None:
    """The hash, then the person as they are after the hash was checked. Round trips: the login, the count of attempts,
    and the end of the login, which forgives them."""
    visits.code()
    assert visits.cost == (2, 3)


def test_identifier_and_password_on_one_page_cost_what_the_password_alone_does(visits: Visits) -> None:
    """And the request that would ask for the password is not made."""
    page = visits.submit(visits.first_page("only"), "/login", username="ada", password=PASSWORD)
    assert "code=" in page.headers["Location"]
    assert visits.cost == (2, 3)


def test_a_refused_attempt_is_one_read_and_one_count_and_its_page_comes_from_memory(town: Town, visits: Visits) -> None:
    """The login and the count of attempts; whoever types another name has it kept, which is one more."""
    stories = town.broker.runtime.engines.stories
    assert isinstance(stories, KvStories)
    stories.settle()
    stories._room = -1e6  # a flood has used them up
    page = visits.password_page("guessed")
    costs, calls = dict[int, tuple[int, int]](), dict[int, int]()
    for status in [422] * 5 + [429] * 2:
        page = visits.submit(page, "/login/password", status, username="guessed", password="wrong").text
        costs[status], calls[status] = visits.cost, visits.calls
    assert costs == {422: (1, 2), 429: (1, 2)}
    assert max(calls.values()) < 1100, calls


def test_the_calls_of_a_login_do_not_grow_unseen(visits: Visits) -> None:
    """What is left of a request's price is Python. The bounds are a tenth above what Python 3.11 counts,
    with the log that tests write."""
    before = Visits(visits.client.application.test_client(), visits.key_values)
    for one in (before, visits):  # what is asked for the first time is found out once
        page = one.first_page("only")
        first = one.calls
        one.submit(page, "/login", username="ada", password=PASSWORD)
    assert first < 600
    assert visits.calls < 1570


def test_a_finished_login_keeps_less_than_500_bytes_in_the_key_value_store(visits: Visits) -> None:
    """With a refresh token. What ends within ten minutes is not counted: the tombstone, and who redeemed the code."""
    store = visits.key_values
    store.everywhere("FLUSHALL")
    visits.tokens()
    (keys,) = store.everywhere("KEYS", "[tgsu]:*").values()
    left = store.batch([("PTTL", key) for key in keys])
    kept = [key for key, milliseconds in zip(keys, left, strict=True) if milliseconds > 600_000]
    assert sorted(key[:1] for key in kept) == [b"g", b"s", b"u"]
    assert sum(store.batch([("MEMORY", "USAGE", key) for key in kept])) < 500


def test_a_code_for_tokens_is_one_read_and_one_script(visits: Visits) -> None:
    visits.tokens()
    assert visits.cost == (1, 1)


def test_a_refresh_is_one_read_and_one_script(visits: Visits) -> None:
    tokens = visits.tokens()
    visits.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert visits.cost == (1, 1)


def test_userinfo_is_one_read_and_one_round_trip(visits: Visits) -> None:
    tokens = visits.tokens()
    visits.send("GET", "/userinfo", 200, headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert visits.cost == (1, 1)


def asked(visits: Visits, username: str) -> tuple[int, str]:
    """Ask for a mail on a login's own page: calls, and what was asked of the database."""
    page = visits.password_page()
    forgot = re.findall(r'href="/t/acme(/forgot[^"]*)"', page)[0].replace("&amp;", "&")
    html = visits.send("GET", forgot, 200).text
    assert visits.cost == (0, 1)
    answer = visits.submit(html, "/forgot", username=username)
    assert visits.cost == (1, 2)
    (statement,), calls = STATEMENTS, visits.calls
    place = urlsplit(answer.headers["Location"])
    visits.send("GET", f"{place.path.removeprefix('/t/acme')}?{place.query}", 200)
    assert visits.cost == (0, 1)
    return calls, statement.partition("VALUES")[0]


def test_an_asked_for_mail_is_one_row_that_is_written(visits: Visits) -> None:
    asked(visits, "ada")  # what is asked for the first time is found out once
    calls, statement = asked(visits, "ada")
    assert statement.startswith("INSERT INTO outbox")
    assert calls < 1020


def test_a_visitor_without_a_login_gets_one_with_a_single_write(visits: Visits) -> None:
    html = visits.send("GET", "/forgot", 200).text
    assert visits.cost == (0, 0)
    visits.submit(html, "/forgot", username="ada")
    assert visits.cost == (1, 1)


def test_asking_for_a_mail_is_the_same_for_unknown_people_and_when_ten_thousand_mails_wait(
    visits: Visits, town: Town
) -> None:
    """The slope is flat because nothing is read: not the people, not the queue. The mail server is the worker's."""
    _, known = asked(visits, "ada")
    _, unknown = asked(visits, "nobody@acme.test")
    with town.broker.runtime.database.writing() as work:
        work.outbox.put(*(a_job(START, f"waiting-{number}") for number in range(10_000)))
    _, later = asked(visits, "ada")
    assert known == unknown == later
