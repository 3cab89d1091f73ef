"""What comes in and what goes out, without a web framework; and the ways to say no."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.core.errors import BadRequest

MAX_BYTES = 16 * 1024
"""All names and values of one request together."""
MAX_STATE = 2048
"""Characters of a `state` or a `nonce`. The conformance tests use 128."""

NO_STORE: Mapping[str, str] = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `query` and `form` are raw pairs, so that duplicates are visible (RFC 6749 3.1, 3.2)."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Sequence[tuple[str, str]] = ()
    form: Sequence[tuple[str, str]] = ()

    def header(self, name: str) -> str | None:
        """A header, whatever the case of its name (RFC 9110 5.1)."""
        if name in self.headers:
            return self.headers[name]
        wanted = name.lower()
        return next((value for key, value in self.headers.items() if key.lower() == wanted), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response; a mapping as body is sent as JSON."""

    status: int
    body: Mapping[str, Any] | bytes | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: dict(NO_STORE))


class RefusedToApp(Exception):
    """The authorization request is refused, and the app is told at its (validated) redirect URI.

    `url` is complete, with `error`, `state` and `iss` (RFC 6749 4.1.2.1, RFC 9207).
    """

    def __init__(self, url: str, error: str, description: str) -> None:
        super().__init__(f"{error}: {description}")
        self.url = url
        self.error = error
        self.description = description


class Parameters(Mapping[str, str]):
    """The parameters of one request; empty values count as absent (RFC 6749 3.1)."""

    __slots__ = ("_values", "twice")

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Raises `BadRequest` for what is too large or cannot be text."""
        self._values: dict[str, str] = {}
        twice: set[str] = set()
        size = 0
        for name, value in pairs:
            try:
                size += len(name.encode()) + len(value.encode())
            except UnicodeEncodeError:
                raise BadRequest("not UTF-8", code="request.encoding") from None
            if "\0" in name or "\0" in value:
                raise BadRequest("has a NUL character", code="request.encoding")
            if name in self._values:
                twice.add(name)
            if value:
                self._values.setdefault(name, value)
        if size > MAX_BYTES:
            raise BadRequest(f"more than {MAX_BYTES} bytes of parameters", code="request.too_large")
        self.twice = frozenset(twice)

    def once(self) -> dict[str, str]:
        """A copy as a plain dictionary, which is quicker to ask."""
        return self._values.copy()

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def printable(description: str) -> str:
    """A text as `error_description` may hold it: ASCII without `"` and backslash (RFC 6749 5.2)."""
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in description)[:300]


def refusal(error: str, description: str = "", status: int = 400, **headers: str) -> Answer:
    """A JSON error (RFC 6749 5.2). Header names are given with `_` for `-`."""
    body = {"error": error} | ({"error_description": printable(description)} if description else {})
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, body, {**NO_STORE, **more})
