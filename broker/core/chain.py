"""The audit log as a chain: every row's hash covers the hash before it, so that no row can be changed unseen.

Two values a row. `hash` is plain SHA-256, so that anybody can follow an exported chain without a key; `seal` is a keyed
digest of it, so that whoever can write to the database alone cannot make a new chain
(docs/decisions/audit-chain.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

FORMAT = "homerealm audit 1"
NOTHING = "0" * 64
"""The hash before the first row."""

Mac = Callable[[str, str, str], str]
"""`Vault.mac`: a purpose and two parts to a keyed digest."""
IsMac = Callable[[str, str, str, str], bool]
"""`Vault.is_mac`: whether that is the keyed digest of a purpose and two parts, also by an earlier key."""


@dataclass(frozen=True, slots=True)
class Record:
    """A row as it is stored: words, not enumerations, since a newer release may know more of them."""

    number: int
    at: datetime
    directory: str
    actor_kind: str
    actor_name: str
    action: str
    target: str
    detail: Mapping[str, str] = field(default_factory=dict)
    reference: str = ""
    place: int | None = None
    """Its place in the chain, from 1 on; None until the worker has sealed it."""
    hash: str = ""
    seal: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the chain: where it begins (everything before was archived), or where it ends."""

    place: int = 0
    hash: str = NOTHING
    seal: str = ""

    @property
    def text(self) -> str:
        return f"{self.place} {self.hash} {self.seal}"

    @classmethod
    def parse(cls, text: str) -> Mark:
        """Raises `ValueError`."""
        place, hash, seal = text.split(" ")
        return cls(int(place), hash, seal)


START = Mark()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of following a chain."""

    last: Mark
    """The last row that is right."""
    problem: str = ""
    """What is wrong with the first row that is not; empty when all is well."""
    number: int | None = None
    """The number of that row, where there is one."""


def canonical(record: Record, place: int) -> bytes:
    """The bytes that are hashed: one JSON array without spaces, in UTF-8, times in UTC with six digits."""
    at = record.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    detail = {str(key): str(value) for key, value in sorted(record.detail.items())}
    content = [FORMAT, place, record.number, at, record.directory, record.actor_kind, record.actor_name, record.action,
               record.target, detail, record.reference]  # fmt: skip
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def link(before: str, record: Record, place: int) -> str:
    """The hash of a row: SHA-256 over the hash before it, a line feed, and the row."""
    return hashlib.sha256(before.encode() + b"\n" + canonical(record, place)).hexdigest()


def seal(mac: Mac, kind: str, place: int, hash: str) -> str:
    """`kind` is `row`, `head` or `start`: one cannot stand for another."""
    return mac(f"audit {kind}", str(place), hash)


def sealed(is_mac: IsMac, kind: str, place: int, hash: str, seal: str) -> bool:
    """Whether a seal is one of this installation."""
    return is_mac(seal, f"audit {kind}", str(place), hash)


def mark(mac: Mac, kind: str, place: int, hash: str) -> Mark:
    """A sealed mark."""
    return Mark(place, hash, seal(mac, kind, place, hash))


def verify(
    records: Iterable[Record], *, start: Mark = START, head: Mark | None = None, is_mac: IsMac | None = None
) -> Verdict:
    """Follow a chain from `start`, and name the first row that is wrong.

    `records` are the sealed rows by place. With `is_mac` the seals are checked as well; with `head` the end must
    be there.
    """
    last = start
    if is_mac and start is not START and not sealed(is_mac, "start", start.place, start.hash, start.seal):
        return Verdict(START, "where the chain begins was not written by this installation")
    if is_mac and head is not None and not sealed(is_mac, "head", head.place, head.hash, head.seal):
        return Verdict(START, "where the chain ends was not written by this installation")
    for record in records:
        wrong = _wrong(record, last, is_mac)
        if wrong:
            return Verdict(last, wrong, record.number)
        last = Mark(last.place + 1, record.hash)
        if head is not None and last.place == head.place and last.hash != head.hash:
            return Verdict(last, f"the hash at place {last.place} is not the one that was kept apart", record.number)
    if head is not None and last.place < head.place:
        return Verdict(last, f"the end is missing: places {last.place + 1} to {head.place}")
    return Verdict(last)


def _wrong(record: Record, last: Mark, is_mac: IsMac | None) -> str:
    place = last.place + 1
    if record.place != place:
        return f"place {place} is missing: the next row, number {record.number}, says place {record.place}"
    if record.hash != link(last.hash, record, place):
        return f"row number {record.number} at place {place} was changed, or the row before it was"
    if is_mac and not sealed(is_mac, "row", place, record.hash, record.seal):
        return f"row number {record.number} at place {place} was not sealed by this installation"
    return ""
