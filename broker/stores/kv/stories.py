"""Stories of what went wrong, kept for a while, so that any replica can explain a reference.

Written by a thread behind the request: whoever sees an error page has waited enough, and a flood of wrong passwords
must not cost a round trip each. What comes faster than it can be kept is counted and dropped.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from contextlib import suppress
from datetime import timedelta

from broker.core.errors import Unavailable
from broker.core.ports import Clock
from broker.core.story import Story
from broker.core.watching import NO_METER, Meter
from broker.stores.kv.redis import RedisKeyValue

KEPT = timedelta(days=3)
WAITING = 500
"""Stories that wait; while the store is down the newest ones."""
BURST, PER_SECOND = 300, 10.0
"""For each process: a flood of refusals for a day takes less than a gigabyte of the store."""
CHAPTERS = 20
"""Stories that are kept together for one login."""
AGAIN = 1.0
"""Seconds until the next try while the store is down."""


class KvStories:
    """Implements `broker.core.watching.Stories`."""

    def __init__(self, kv: RedisKeyValue, clock: Clock, kept: timedelta = KEPT, meter: Meter = NO_METER) -> None:
        self._kv = kv
        self._clock = clock
        self._kept = kept
        self._meter = meter
        self.dropped = 0
        self._fresh()
        os.register_at_fork(after_in_child=self._fresh)

    def _fresh(self) -> None:
        self._waiting: deque[Story] = deque(maxlen=WAITING)
        self._something = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._busy = False
        self._room, self._filled_at = float(BURST), self._clock.now()

    def keep(self, story: Story) -> None:
        with self._something:
            now = self._clock.now()
            gone = max(0.0, (now - self._filled_at).total_seconds())
            self._room, self._filled_at = min(float(BURST), self._room + gone * PER_SECOND), now
            if self._room < 1 or self._closing.is_set():
                self._drop()
                return
            self._room -= 1
            if len(self._waiting) == WAITING:
                self._drop()
            self._waiting.append(story)
            if self._thread is None:
                with suppress(RuntimeError):  # the interpreter ends
                    self._thread = threading.Thread(target=self._run, name="stories", daemon=True)
                    self._thread.start()
            self._something.notify_all()

    def _drop(self) -> None:
        self.dropped += 1
        self._meter.count("stories_dropped")

    def settle(self, seconds: float = 5.0) -> None:
        """Wait until everything is kept."""
        with self._something:
            self._something.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def close(self) -> None:
        if self._thread is not None:
            self.settle(AGAIN)
            self._closing.set()
            with self._something:
                self._something.notify_all()
            self._thread.join(AGAIN)

    def find(self, reference: str) -> list[Story]:
        """Raises `Unavailable`."""
        self.settle()
        found = self._read(reference)
        if found is None:
            return []
        others = self._login(found.login) if found.login else []
        stories = {one.reference: one for one in (self._read(other) for other in others) if one is not None}
        stories[found.reference] = found
        return sorted(stories.values(), key=lambda one: one.at)

    def _run(self) -> None:
        while True:
            with self._something:
                self._busy = False
                self._something.notify_all()
                self._something.wait_for(lambda: bool(self._waiting) or self._closing.is_set())
                if not self._waiting:
                    return
                self._busy = True
                story = self._waiting.popleft()
            try:
                self._write(story)
            except Unavailable:
                with self._something:
                    if len(self._waiting) < WAITING:
                        self._waiting.appendleft(story)
                    else:
                        self._drop()
                if self._closing.wait(AGAIN):
                    return
            except Exception:
                self._drop()

    def _write(self, story: Story) -> None:
        self._kv.put(_key(story.reference), json.dumps(story.as_dict()).encode(), self._kept)
        if not story.login:
            return
        known = self._login(story.login)
        if story.reference not in known:
            # Two replicas may do this at once, and one reference may be missing then: each story is there by its own.
            together = json.dumps([*known, story.reference][-CHAPTERS:]).encode()
            self._kv.put(_login_key(story.login), together, self._kept)

    def _read(self, reference: str) -> Story | None:
        raw = self._kv.get(_key(reference))
        try:
            return None if raw is None else Story.from_dict(json.loads(raw))
        except (ValueError, KeyError, TypeError):
            return None

    def _login(self, login: str) -> list[str]:
        raw = self._kv.get(_login_key(login))
        try:
            found = [] if raw is None else json.loads(raw)
        except ValueError:
            return []
        return [str(one) for one in found] if isinstance(found, list) else []


def _key(reference: str) -> str:
    return f"story:{reference}"


def _login_key(login: str) -> str:
    return f"story-login:{login}"
