"""Cookies. Each name carries a digest of the issuer: cookies ignore ports and paths are no border (CONTRACT 5)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from werkzeug.http import dump_cookie
from werkzeug.sansio.http import parse_cookie

from broker.core.ports import Entropy

YEAR = 365 * 24 * 3600
_PLAIN = re.compile(r"[\w!#$%&'()*+\-./:<=>?@\[\]^`{|}~]*", re.ASCII)
_QUOTED = str.maketrans({'"': r"\"", "\\": r"\\", ",": r"\054", ";": r"\073"})
_to_json = json.JSONEncoder(separators=(",", ":")).encode


def read_cookies(header: str) -> Mapping[str, str]:
    """The cookies of a request. A name that came twice has its first value, as browsers send the closest first.

    Any bytes are read: a neighbour below the same domain may have set a cookie that is no text.
    """
    if '"' in header or not header.isascii():
        return parse_cookie(header.encode("latin-1", "replace").decode("utf-8", "replace"))
    found: dict[str, str] = {}
    for part in header.split(";"):
        name, _, value = part.partition("=")
        found.setdefault(name.strip(), value.strip())
    return found


@lru_cache(maxsize=4096)
def _prefix(issuer: str) -> tuple[str, bool]:
    digest = hashlib.sha256(issuer.encode()).hexdigest()[:10]
    secure = issuer.startswith("https:")
    return (f"__Host-hr{{}}-{digest}" if secure else f"hr{{}}-{digest}"), secure


@dataclass(frozen=True, slots=True)
class Device:
    """What is remembered on this device; listed on a page that can forget it. Holds no secret, grants nothing."""

    connection: str = ""
    """The last one that was used: a suggestion."""
    identifier: str = ""
    language: str = ""


class Jar:
    """The cookies of one browser at one tenant: what came, and what is to be set with the answer."""

    def __init__(self, issuer: str, sent: Mapping[str, str], entropy: Entropy) -> None:
        self._pattern, self._secure = _prefix(issuer)
        self._sent = sent
        self._entropy = entropy
        self._set: dict[str, tuple[str, int | None]] = {}
        self._device: Device | None = None

    def _name(self, kind: str) -> str:
        return self._pattern.format(kind)

    def _get(self, kind: str) -> str | None:
        if kind in self._set:
            return self._set[kind][0] or None
        value = self._sent.get(self._name(kind))
        return value if value and len(value) <= 512 else None

    @property
    def has_browser(self) -> bool:
        """Whether the browser sent our cookie back: on a form post, whether it takes cookies at all."""
        return self._name("b") in self._sent

    def browser(self) -> str:
        """The secret that logins and forms are bound to; made on the first visit, kept for the browser's session."""
        value = self._get("b")
        if value is None or len(value) < 40:
            value = self._entropy.token(32)
            self._set["b"] = value, None
        return value

    @property
    def session(self) -> str | None:
        return self._get("s")

    @property
    def known_device(self) -> str:
        """What a device shows that signed in before: a lane of its own for attempts (flows/known_device)."""
        return self._get("k") or ""

    def keep_known_device(self, cookie: str) -> None:
        """Outlives the session and signing out; no secret of anybody's, and good for nothing else."""
        if cookie != self.known_device:
            self._set["k"] = cookie, YEAR

    def sign_in(self, secret: str) -> None:
        self._set["s"] = secret, None

    def sign_out(self) -> None:
        self._set["s"] = "", 0

    @property
    def app(self) -> str:
        """The app of the last login that was opened here: a page that is too old leads back to it."""
        return self._get("a") or ""

    def keep_app(self, client: str) -> None:
        if client != self.app:
            self._set["a"] = client, None

    @property
    def link(self) -> str | None:
        """`<purpose>.<secret>` of a mailed link that was opened in this browser."""
        return self._get("l")

    def keep_link(self, purpose: str, secret: str, seconds: int) -> None:
        """`SameSite=Lax`: a Strict cookie is not sent after the redirect from a mail program's page."""
        self._set["l"] = f"{purpose}.{secret}", seconds

    def drop_link(self) -> None:
        if self._get("l"):
            self._set["l"] = "", 0

    def device(self) -> Device:
        """Never trusted, hence never an error: a broken cookie is an empty one."""
        if self._device is None:
            self._device = self._read_device()
        return self._device

    def _read_device(self) -> Device:
        kept = self._get("d")
        if kept is None:
            return Device()
        try:
            value: Any = json.loads(kept)
        except ValueError:
            return Device()
        fields = {"connection": "c", "identifier": "i", "language": "l"}
        if not isinstance(value, dict):
            return Device()
        return Device(
            **{name: str(value[key])[:254] for name, key in fields.items() if isinstance(value.get(key), str)}
        )

    def remember(self, device: Device) -> None:
        value = {"c": device.connection, "i": device.identifier, "l": device.language}
        if device == self.device():
            return
        self._device, self._set["d"] = device, (_to_json({k: v for k, v in value.items() if v}), YEAR)

    def remember_connection(self, connection: str) -> None:
        if connection != self.device().connection:
            self.remember(replace(self.device(), connection=connection))

    def remember_identifier(self, identifier: str) -> None:
        """An empty one: forget it."""
        if identifier != self.device().identifier:
            self.remember(replace(self.device(), identifier=identifier))

    def lines(self) -> list[tuple[str, str]]:
        """The headers that set what was asked for."""
        return [("Set-Cookie", self._line(kind, value, seconds)) for kind, (value, seconds) in self._set.items()]

    def _line(self, kind: str, value: str, seconds: int | None) -> str:
        # Without Expires: every browser knows Max-Age, and the other would be from a clock that is not ours.
        if value.isascii() and value.isprintable():
            if not _PLAIN.fullmatch(value):
                value = f'"{value.translate(_QUOTED)}"'
            lasting = "" if seconds is None else f"Max-Age={seconds}; "
            secure = "Secure; " if self._secure else ""
            return f"{self._name(kind)}={value}; {lasting}{secure}HttpOnly; Path=/; SameSite=Lax"
        return dump_cookie(
            self._name(kind), value, max_age=seconds, path="/", secure=self._secure, httponly=True, samesite="Lax",
            sync_expires=False,
        )  # fmt: skip
