"""The short way answers as the long one does, byte for byte, and nobody who listens is passed by."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from flask import request_started
from werkzeug.test import Client

from broker.stores.kv.embedded import EmbeddedValkey
from broker.testing.town import PASSWORD, Town
from broker.web.lane import VIEWS, Lane

ASKED = {
    "response_type": "code", "client_id": "demo", "redirect_uri": "https://app.test/callback/acme", "scope": "openid",
    "state": "s", "nonce": "n", "code_challenge": "c" * 43, "code_challenge_method": "S256",
}  # fmt: skip
FORM = "application/x-www-form-urlencoded"
_RANDOM = re.compile(r"[\w-]{22,}(\.[\w-]{43})?|\w{4}-\w{4}-\w{2}\b")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    servers = [EmbeddedValkey(tmp_path_factory.mktemp("kv")) for _ in range(2)]
    town = Town(tmp_path_factory.mktemp("town"), (servers[0].start(), servers[1].start()))
    town.broker.add("acme", email="ada@acme.test", username="ada")
    yield town
    town.close()
    for server in servers:
        server.stop()


def lane_of(town: Town) -> Lane:
    lane = town.broker.app.wsgi_app.app.app  # type: ignore[attr-defined]
    assert isinstance(lane, Lane)
    return lane


@dataclass
class Told:
    """An answer without what is random in it."""

    status: str
    headers: list[tuple[str, str]]
    body: str


class Walker:
    """A browser that takes one of the two ways."""

    def __init__(self, app: Callable[..., Any], host: str = "login.test") -> None:
        self.client = Client(app)
        self.base = f"https://{host}"
        self.html = ""

    def ask(self, method: str, path: str, **how: Any) -> Told:
        answer = self.client.open(f"/t/acme{path}", method=method, base_url=self.base, **how)
        self.html = answer.text
        headers = sorted((name, _RANDOM.sub("*", value)) for name, value in answer.headers.items())
        return Told(answer.status, headers, _RANDOM.sub("*", answer.text))

    def begin(self, **more: str) -> Told:
        return self.ask("GET", f"/authorize?{urlencode(ASKED | more)}")

    def hidden(self, action: str) -> dict[str, str]:
        form = self.html.partition(f'action="/t/acme{action}"')[2].partition("</form>")[0]
        return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))

    def submit(self, action: str, path: str | None = None, **fields: str) -> Told:
        return self.ask("POST", path or action, data=self.hidden(action) | fields)


def every_page(walker: Walker) -> Iterator[Told]:
    yield walker.begin()
    fields = walker.hidden("/login")
    yield walker.ask("GET", f"/login?tx={fields['tx']}")
    yield walker.submit("/login", username="")
    yield walker.submit("/login", username="not an \u202e address")
    yield walker.submit("/login", username="ada", remember="1")
    yield walker.ask("GET", f"/login/password?tx={fields['tx']}")
    yield walker.submit("/login/password", username="ada", password="")
    yield walker.submit("/login/password", username="ada", password="wrong")
    yield walker.submit("/login/password", username="ada", password=PASSWORD)
    yield walker.begin()
    yield walker.begin(prompt="login")
    yield walker.begin(prompt="none", max_age="0")
    yield walker.ask("GET", f"/login?tx={fields['tx']}")


def what_is_refused(walker: Walker) -> Iterator[Told]:
    yield walker.begin(client_id="nobody")
    yield walker.begin(redirect_uri="https://evil.test/")
    yield walker.begin(response_type="token")
    yield walker.begin(scope="é")
    yield walker.ask("GET", "/authorize?state=a&state=b")
    yield walker.ask("GET", "/authorize?state=%ff")
    yield walker.ask("GET", "/authorize?state=%00")
    yield walker.ask("GET", f"/authorize?state={'x' * 17_000}")
    yield walker.ask("GET", "/login?tx=unknown")
    yield walker.ask("GET", "/login/password")
    yield walker.ask("POST", "/login", data={"username": "ada"})
    walker.begin()
    fields = walker.hidden("/login")
    yield walker.ask("POST", "/login", data=fields | {"username": "ada", "csrf_token": "stale"})
    yield walker.ask("POST", "/login?username=eve", data=fields | {"username": "ada"})
    yield walker.ask("POST", "/login", data=f"{urlencode(fields)}&username=a&username=b", content_type=FORM)
    yield walker.ask("POST", "/login", data=urlencode(fields | {"username": "ada"}), content_type=f"{FORM}; a=b")
    yield walker.ask("POST", "/login", json=fields)
    yield walker.ask("POST", "/login", data="%ff=%ff", content_type=FORM)
    yield walker.ask("POST", "/login", data="a=" + "b" * 70_000, content_type=FORM)
    yield walker.ask("POST", "/login", data="&".join(f"a{i}=b" for i in range(101)), content_type=FORM)
    yield walker.ask("POST", "/login", input_stream=io.BytesIO(b"a=b"), content_length=10, content_type=FORM)


def what_is_odd(walker: Walker) -> Iterator[Told]:
    yield walker.ask("HEAD", f"/authorize?{urlencode(ASKED)}")
    yield walker.ask("OPTIONS", "/login")
    yield walker.ask("PUT", "/login")
    yield walker.ask("POST", "/authorize", data=ASKED)
    yield walker.ask("GET", "/../nobody/login")
    yield walker.ask("GET", "/login", headers={"Cookie": 'a="b\\073"; =; é; a'})


def a_forgotten_password(walker: Walker) -> Iterator[Told]:
    yield walker.begin()
    fields = walker.hidden("/login")
    yield walker.ask("GET", f"/forgot?tx={fields['tx']}")
    yield walker.submit("/forgot", username="")
    yield walker.submit("/forgot", username="not an \u202e address")
    yield walker.submit("/forgot", username="eve@contoso.test")
    walker.ask("GET", f"/forgot?tx={fields['tx']}&other=1")
    yield walker.submit("/forgot", username="ada")
    yield walker.ask("GET", f"/login?tx={fields['tx']}")
    yield walker.submit("/forgot", username="nobody@acme.test")
    yield walker.ask("GET", f"/login?tx={fields['tx']}")
    fields = walker.hidden("/forgot")
    yield walker.ask("POST", "/forgot", data=fields | {"username": "ada", "csrf_token": "stale"})
    yield walker.ask("POST", "/forgot?username=eve", data=fields | {"username": "ada"})
    yield walker.ask("POST", "/forgot", data={"username": "ada"})
    yield walker.ask("GET", "/forgot")
    yield walker.submit("/forgot", username="ada@acme.test")


@pytest.mark.parametrize(
    "journey", [every_page, what_is_refused, what_is_odd, a_forgotten_password], ids=lambda one: one.__name__
)
def test_both_ways_give_the_same_answers(town: Town, journey: Callable[[Walker], Iterator[Told]]) -> None:
    lane = lane_of(town)
    assert list(journey(Walker(lane))) == list(journey(Walker(lane._long_way)))
    assert len(list(journey(Walker(lane)))) > 1


def test_how_long_a_cookie_lasts_is_told_in_seconds_and_not_by_the_clock_of_the_machine(town: Town) -> None:
    told = [value for answer in every_page(Walker(lane_of(town))) for name, value in answer.headers
            if name == "Set-Cookie"]  # fmt: skip
    assert any("Max-Age" in value for value in told)
    assert not any("Expires" in value for value in told)


@pytest.mark.parametrize("host", ["login.test", "login.test:443", "evil.test", "LOGIN.test", "login.test."])
def test_both_ways_know_their_host(town: Town, host: str) -> None:
    lane = lane_of(town)
    assert Walker(lane, host).begin() == Walker(lane._long_way, host).begin()


def test_an_app_of_our_own_takes_the_short_way(town: Town) -> None:
    """Whoever adds a hook to the app pays for it with every login: let them know."""
    seen: list[str] = []
    lane = lane_of(town)

    def long_way(environ: dict[str, Any], start_response: Any) -> Any:
        seen.append(environ["PATH_INFO"])
        return town.broker.app.wsgi_app(environ, start_response)

    watched = Lane(lane._app, lane._house, "", lane._ours)
    watched._long_way = long_way
    walker = Walker(watched)
    list(every_page(walker))
    assert seen == ["/t/acme/login"]  # the last page, which says that this login is over


def test_a_host_app_that_listens_sees_every_request(town: Town) -> None:
    seen: list[str] = []

    def listen(sender: Any, **_: Any) -> None:
        from flask import request

        seen.append(urlsplit(request.url).path)

    with request_started.connected_to(listen):
        Walker(lane_of(town)).begin()
    assert seen == ["/t/acme/authorize"]


def test_a_bug_of_ours_is_a_page_with_a_reference_on_either_way(town: Town) -> None:
    def broken(_: Any) -> Any:
        raise ZeroDivisionError

    lane = lane_of(town)
    view, VIEWS["GET", "/login"] = VIEWS["GET", "/login"], broken
    try:
        told = Walker(lane).ask("GET", "/login")
    finally:
        VIEWS["GET", "/login"] = view
    assert told.status.startswith("500")
    assert 'data-code="internal"' in told.body
