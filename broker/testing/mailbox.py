"""A maildir, read by a test."""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

_LINK = re.compile(r"https?://\S+")


@dataclass(frozen=True)
class Mail:
    message: EmailMessage

    @property
    def kind(self) -> str:
        return str(self.message["X-Homerealm-Mail"])

    @property
    def to(self) -> str:
        return str(self.message["To"])

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    @property
    def text(self) -> str:
        part = self.message.get_body(("plain",))
        return str(part.get_content()) if part else ""

    @property
    def links(self) -> list[str]:
        """Every address in the text part."""
        return [found.rstrip(".,)>") for found in _LINK.findall(self.text)]

    def link(self, path: str = "") -> str:
        """The address to act on: the one that has `path` in it. Raises `LookupError`."""
        found = [link for link in self.links if path in link]
        if not found:
            raise LookupError(f"no link with {path!r} in: {self.text}")
        return found[0]


@dataclass
class Mailbox:
    """What was delivered to a maildir."""

    folder: Path

    def all(self) -> list[Mail]:
        """Oldest first."""
        files = [path for part in ("new", "cur") for path in (self.folder / part).glob("*")]
        files.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
        return [Mail(email.message_from_bytes(path.read_bytes(), policy=email.policy.default)) for path in files]

    def to(self, address: str, kind: str | None = None) -> list[Mail]:
        return [mail for mail in self.all() if mail.to == address and kind in (None, mail.kind)]

    def last(self, address: str, kind: str | None = None) -> Mail:
        """The newest mail to somebody. Raises `LookupError` when there is none."""
        found = self.to(address, kind)
        if not found:
            raise LookupError(f"no mail {kind or ''} to {address}; there are {[(m.to, m.kind) for m in self.all()]}")
        return found[-1]
