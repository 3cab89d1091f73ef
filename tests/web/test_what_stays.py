"""What a process keeps of requests that are over: nothing that grows with their number.

Counted, not weighed: how much memory a process has depends on the allocator and on the machine.
"""

from __future__ import annotations

import ast
import gc
from collections import Counter, deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import broker
import connections
from broker.stores.kv.embedded import EmbeddedValkey
from broker.stores.kv.redis import RedisKeyValue
from broker.testing.town import ACME, Town
from tests.web.test_counts import ASKED, Visits

ROUNDS = 24
REMEMBERED = 4
"""What a round may add to memories of a fixed size: signatures of tokens that were made or looked at."""
LOOKED_THROUGH_NOW_AND_THEN = {"weakref.ReferenceType"}
"""SQLite's module keeps one to each cursor of a connection, and forgets the dead ones at every 200th."""


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visits]:
    servers = [EmbeddedValkey(tmp_path_factory.mktemp("kv")) for _ in range(2)]
    town = Town(tmp_path_factory.mktemp("town"), (servers[0].start(), servers[1].start()), acme=ACME)
    town.broker.add("acme", email="ada@acme.test", username="ada")
    store = RedisKeyValue.connect(town.key_values[0])
    yield Visits(town.broker.app.test_client(), store)
    store.close()
    town.close()
    for server in servers:
        server.stop()


def a_round(visits: Visits, number: int) -> None:
    """A whole login of a new browser with all that an app asks for, and what goes wrong beside it."""
    browser = Visits(visits.client.application.test_client(), visits.key_values)
    tokens = browser.tokens()
    browser.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    browser.send("GET", "/userinfo", 200, headers={"Authorization": f"Bearer {tokens['access_token']}"})
    browser.send("GET", "/userinfo", 401, headers={"Authorization": f"Bearer nobody-{number}"})
    browser.send("GET", f"/nowhere/{number}", 404)
    browser.send("GET", f"/authorize?client_id=nobody-{number}", 400)


def census() -> tuple[Counter[str], int]:
    """How many objects there are of each type, and how many entries their containers have."""
    gc.collect()
    objects = gc.get_objects()
    kinds = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in objects)
    return kinds, sum(len(one) for one in objects if type(one) in (dict, set, deque))


def test_requests_that_are_over_leave_nothing_that_grows_with_them(visits: Visits) -> None:
    seen = []
    for batch in range(3):  # in the first one pages are compiled, connections opened, memories begun
        for number in range(ROUNDS):
            a_round(visits, batch * ROUNDS + number)
        seen.append(census())
    (first, _), (second, entries), (third, entries_after) = seen
    grown = {kind: min(second[kind] - first[kind], third[kind] - second[kind]) for kind in third}
    grown = {kind: more for kind, more in grown.items() if more >= ROUNDS and kind not in LOOKED_THROUGH_NOW_AND_THEN}
    assert grown == {}
    assert entries_after - entries <= ROUNDS * REMEMBERED


def test_what_every_login_asks_for_leaves_no_garbage_to_look_for(visits: Visits) -> None:
    """Cycles wait until there are thousands of them: memory that no caller gives back."""

    def answered(path: str) -> int:
        """Objects in cycles after one request. The request is put together before; the answer is read after."""
        app: Any = visits.client.application
        answers = partial(visits.client.open, f"/t/acme{path}", base_url="https://login.test")
        assert answers().status_code in (200, 404)
        ours = app.wsgi_app

        def counted(environ: Any, start_response: Any) -> Any:
            environ.pop("werkzeug.request", None)  # the client's own
            gc.collect()
            answer = ours(environ, start_response)
            found.append(gc.collect())
            return answer

        found: list[int] = []
        app.wsgi_app = counted
        gc.disable()
        try:
            answers()
        finally:
            gc.enable()
            app.wsgi_app = ours
        return found[0]

    assert answered("/.well-known/openid-configuration") == 0
    assert answered(f"/authorize?{urlencode(ASKED)}") == 0
    assert answered("/nowhere") > 0, "or this test sees no garbage"


def test_every_memory_has_a_bound() -> None:
    """A cache without one may only be where there are no more keys than classes and settings."""
    endless = []
    for package in (broker, connections):
        folder = Path(package.__path__[0])
        for file in sorted(folder.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.FunctionDef) and any(map(_is_endless, node.decorator_list)):
                    endless.append(f"{file.relative_to(folder.parent)}:{node.name}")
    assert [place for place in endless if not place.startswith("broker/testing/")] == [
        "broker/cli/serve.py:_pen_of_the_supervisor",
        "broker/settings/fit.py:shape_of_model",
        "broker/settings/schema.py:_docstrings",
        "broker/settings/schema.py:_document",
    ]


def _is_endless(decorator: ast.expr) -> bool:
    text = ast.unparse(decorator).removeprefix("functools.")
    return text == "cache" or "maxsize=None" in text
