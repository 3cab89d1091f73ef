"""More logins than can be hashed: what is asked meanwhile is answered (SECURITY 18)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from broker.services.argon2id import Engine
from broker.services.hashing import Argon2Hasher
from broker.testing.town import Town
from tests.stories.journeys import at_the_app, open_app, sign_in, type_identifier, type_password


class Held:
    """Verifies when it is let go."""

    name = "held"

    def __init__(self, engine: Engine) -> None:
        self.engine, self.open = engine, threading.Event()

    def hash(self, raw: bytes, memory_kib: int, time_cost: int) -> str:
        return self.engine.hash(raw, memory_kib, time_cost)

    def verify(self, stored: str, raw: bytes) -> bool:
        self.open.wait()
        return self.engine.verify(stored, raw)


def test_while_all_hashing_is_taken_pages_and_tokens_are_answered(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    known = town.browser("198.51.100.1")
    assert at_the_app(sign_in(known, "ada"), "ada@acme.test")
    hasher = town.broker.runtime.engines.hasher
    assert isinstance(hasher, Argon2Hasher)
    held = Held(hasher.engine)
    monkeypatch.setattr(hasher, "_engine", held)
    hasher.close()  # it begins again with this engine
    pages = [type_identifier(open_app(town.browser(f"203.0.113.{n}")), f"person{n}") for n in range(60)]
    with ThreadPoolExecutor(60) as flood:
        calls = [flood.submit(type_password, page, "some password") for page in pages]
        try:
            while sum(call.done() for call in calls) < 11:
                pass
            # 49 have a place in the queue or a thread; the rest was told to come again, with its form.
            refused = [call.result() for call in calls if call.done()]
            assert {page.status for page in refused} <= {403, 503}
            assert all(page.form(field="current-password") for page in refused)
            assert all("retry-after" in page.headers for page in refused if page.status == 503)
            assert open_app(town.browser("203.0.113.200")).status == 200
            assert town.world.send("GET", f"{town.broker.base}/t/acme/jwks").status_code == 200
            assert at_the_app(open_app(known), "ada@acme.test"), "a code and tokens, without a password"
        finally:
            held.open.set()
    assert {call.result().status for call in calls} <= {403, 422, 503}
