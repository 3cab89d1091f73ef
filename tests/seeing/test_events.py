"""The log: stable names, no secrets, and nobody who waits for it."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from broker.core.events import Action
from broker.core.happenings import EVENTS
from broker.core.values import Secret
from broker.services.event_log import MASK, Pen, redact

ROOT = Path(__file__).parents[2]
SAYERS = {"log", "info", "warning", "error", "exception", "_count", "_say", "tell", "refuse"}


def said() -> dict[str, str]:
    """Every event name in shipped code, and where it is said."""
    found = {}
    for path in sorted(ROOT.glob("broker/**/*.py")):
        if path.is_relative_to(ROOT / "broker" / "testing") or path.name == "happenings.py":
            continue
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and node.value in EVENTS:
                found[node.value] = path.name
            called = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            if called in SAYERS and isinstance(node, ast.Call) and node.args and "event_log" in text:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str) and "." in first.value:
                    found[first.value] = path.name
    return found


def test_every_event_that_is_said_is_in_the_list_and_the_other_way_round() -> None:
    assert set(said()) - set(EVENTS) == set()
    assert set(EVENTS) - set(said()) == set()


def test_every_action_of_the_audit_log_is_written_somewhere() -> None:
    used = {
        node.attr
        for path in [*ROOT.glob("broker/**/*.py"), *ROOT.glob("connections/**/*.py")]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Action"
    }
    assert set(Action.__members__) - used == set()


def test_secrets_are_masked_by_type_by_key_and_in_texts() -> None:
    event = redact(None, "info", {
        "event": "login.refused",
        "code": "password.wrong",
        "reference": "7K3Q-XW92-4T",
        "anything": Secret("CANARY"),
        "password": "CANARY",
        "id_token_hint": "CANARY",
        "facts": {"client_secret": "CANARY", "kept": "this"},
        "many": [Secret("CANARY"), "x?ticket=CANARY&y=1"],
        "detail": "GET https://idp.test/cb?code=CANARY&state=CANARY said 400",
        "place": "redis://user:CANARY@cache.test:6379/0 is gone",
        "traceback": "ValueError: eyJhbGciOiJSUzI1NiJ9.CANARY.CANARY and $argon2id$v=19$m=1,t=1,p=1$CANARY$CANARY",
        "hash": "0af",
    })  # fmt: skip
    assert "CANARY" not in repr(event)
    assert event["code"] == "password.wrong"
    assert event["facts"] == {"client_secret": MASK, "kept": "this"}
    assert event["detail"] == "GET https://idp.test/cb?code=***&state=*** said 400"
    assert event["place"] == "redis://***@cache.test:6379/0 is gone"
    assert event["hash"] == "0af"


def test_what_is_written_comes_out_in_order() -> None:
    reader, writer = os.pipe()
    pen = Pen(writer)
    for number in range(500):
        pen.write(f'{{"number": {number}}}')
    pen.close()
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert [json.loads(line)["number"] for line in pipe] == list(range(500))


def test_nobody_waits_for_a_reader_that_is_stuck_and_what_was_lost_is_counted() -> None:
    reader, writer = os.pipe()
    pen = Pen(writer, waiting=50)
    line = "x" * 1000
    done = threading.Event()

    def write() -> None:
        for _ in range(1000):
            pen.write(line)
        done.set()

    threading.Thread(target=write, daemon=True).start()
    assert done.wait(10), "the pipe is full, and writing does not wait"
    with os.fdopen(reader, "rb") as pipe:
        lines = []
        threading.Thread(target=lambda: (pen.close(), pen._thread.join(), os.close(writer)), daemon=True).start()
        lines = pipe.read().decode().splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    assert {one["event"] for one in told} == {"events.dropped"}
    assert lines.count(line) + sum(one["count"] for one in told) == 1000


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    pen = Pen(full)
    pen.write("lost")
    pen.close()
    os.close(full)
    assert pen.dropped == 1


def test_a_process_that_forked_writes_its_own_lines() -> None:
    reader, writer = os.pipe()
    pen = Pen(writer)
    pen.write("parent")
    pen.close()
    child = os.fork()
    if child == 0:
        pen.write("child")
        pen.close()
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read().splitlines() == ["parent", "child"]


IN_A_HOST_APP = """
import json, logging
from broker.services.event_log import logger
voice = logger("homerealm.config")
voice.error("config.refused", password="CANARY", problems=["%s"])
try:
    raise ValueError("x?ticket=CANARY")
except ValueError:
    voice.exception("config.watch_failed")
kept = []
class Keep(logging.Handler):
    def emit(self, record):
        kept.append((record.name, record.levelno, json.loads(record.getMessage())))
logging.getLogger("homerealm").addHandler(Keep())
logging.getLogger("homerealm").setLevel("INFO")
voice.info("config.watched", version="v1")
assert kept == [("homerealm.config", 20, {"event": "config.watched", "version": "v1"})], kept
import structlog
theirs = []
structlog.configure(processors=[lambda logger, method, event: theirs.append(event) or str(event)])
voice.info("config.watched", version="v2")
assert theirs == [{"event": "config.watched", "version": "v2"}] and len(kept) == 1, theirs
"""


def test_events_in_somebodys_app_go_to_their_logging_and_never_to_their_output() -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_HOST_APP], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["{'version': 'v2', 'event': 'config.watched'}"]  # their structlog's own doing
    assert "config.refused" in done.stderr, "without any logging, warnings and errors are still seen"
    assert "Traceback" in done.stderr
    assert "CANARY" not in done.stderr


@pytest.mark.parametrize("kind", EVENTS.values(), ids=EVENTS)
def test_an_event_has_a_meaning_and_a_level(kind) -> None:
    assert kind.level in ("info", "warning", "error")
    assert kind.meaning.endswith(".")
