"""What the demo's processes say: all of it goes to a file, and what went wrong to the terminal as well."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

NAME = "events.log"
_LAST_WORDS = 2.0
"""Seconds for what is still in the pipe when all of them have ended."""


class Events:
    """A pipe for their standard error, read by a thread. Begins a fresh file. Raises `OSError`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / NAME
        self._file = self.path.open("wb", buffering=0)
        reader, self.descriptor = os.pipe()
        """The writing end: their standard error."""
        self._reader = threading.Thread(target=self._read, args=(os.fdopen(reader, "rb"),), name="events", daemon=True)
        self._reader.start()

    def of_a_process(self, event: str, **facts: Any) -> None:
        """What the supervisor has to say, in words for a terminal."""
        os.write(self.descriptor, json.dumps({"event": event, "level": "warning", **facts}).encode() + b"\n")
        who = facts.get("process", "")
        if event == "process.ended":
            print(f"homerealm: {who} ended ({facts['how']}) and is started again: {self.path}", file=sys.stderr)  # noqa: T201 - the demo is a terminal program
        elif event == "process.unstarted":
            print(f"homerealm: {who} could not be started and is tried again: {facts['why']}", file=sys.stderr)  # noqa: T201 - as above
        elif event == "process.killed":
            print(f"homerealm: {who} did not end within {facts['after']} s and was killed", file=sys.stderr)  # noqa: T201 - as above

    def close(self) -> None:
        """When all processes have ended."""
        os.close(self.descriptor)
        self._reader.join(_LAST_WORDS)
        self._file.close()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                with suppress(OSError, ValueError):  # a full disk; closed at the end. The processes must not wait.
                    self._file.write(line)
                if wrong(line):
                    sys.stderr.buffer.write(line)
                    sys.stderr.buffer.flush()


def wrong(line: bytes) -> bool:
    """Whether a person should see this: an event of level error, or what is no event, such as a traceback."""
    try:
        event = json.loads(line)
    except ValueError:
        return True
    return not isinstance(event, dict) or event.get("level") in {"error", "critical"}
