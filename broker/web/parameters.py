"""Parameters, read strictly: once each, UTF-8, in the query or in the body but not both (SECURITY 4).

GitLab CVE-2023-7028 was an address given as an array; a second value must never become a second recipient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from flask import Request
from werkzeug.http import parse_options_header
from werkzeug.wsgi import get_input_stream

from broker.core.errors import BadRequest

MAX_BODY = 64 * 1024
"""Bytes: the longest password is 1,024 code points; a state of an app may be 4 kB."""
MAX_QUERY = 16 * 1024
MAX_FIELDS = 100
FORM = "application/x-www-form-urlencoded"
RawPairs = Sequence[tuple[str, str]]


class TooLarge(BadRequest):
    """More than any of our forms has."""

    code, status = "request.too_large", 413


class NotAForm(BadRequest):
    code, status = "request.media_type", 415


class Pairs(Mapping[str, str]):
    """Names and values as they came. Reading a name that came twice raises `BadRequest`."""

    __slots__ = ("_first", "_twice", "pairs")

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.pairs = tuple(pairs)
        self._first: dict[str, str] = {}
        self._twice: set[str] = set()
        for name, value in self.pairs:
            if name in self._first:
                self._twice.add(name)
            self._first.setdefault(name, value)

    def __getitem__(self, name: str) -> str:
        if name in self._twice:
            raise BadRequest(f"{name} is there twice", code="request.duplicate")
        return self._first[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)

    @property
    def twice(self) -> frozenset[str]:
        return frozenset(self._twice)


def read_form(request: Request) -> Pairs:
    """The body of a form post. Raises `BadRequest` for JSON, multipart, and what is too large."""
    length = request.content_length or 0
    if length > MAX_BODY:
        raise TooLarge
    request.max_content_length = MAX_BODY
    body = request.get_data(cache=True)
    if body and request.mimetype != FORM:
        raise NotAForm(f"forms are {FORM}")
    return Pairs(_parse(body, MAX_BODY))


def query_of(environ: dict[str, Any]) -> RawPairs:
    """Raises `BadRequest`."""
    query: str = environ.get("QUERY_STRING", "")
    return _parse(query.encode("latin-1"), MAX_QUERY) if query else ()


def form_of(environ: dict[str, Any]) -> RawPairs:
    """As `read_form`, without a request object. Raises `BadRequest`, and `HTTPException` when the body breaks off."""
    length: str = environ.get("CONTENT_LENGTH") or ""
    if length.isascii() and length.isdecimal() and int(length[:10]) > MAX_BODY:
        raise TooLarge
    ends = "wsgi.input_terminated" in environ
    body: bytes = environ["wsgi.input"].read(MAX_BODY + 1) if ends else get_input_stream(environ).read()
    kind: str = environ.get("CONTENT_TYPE", "")
    if body and kind != FORM and parse_options_header(kind)[0].lower() != FORM:
        raise NotAForm(f"forms are {FORM}")
    return _parse(body, MAX_BODY)


def _parse(raw: bytes, limit: int) -> RawPairs:
    if not raw:
        return ()
    if len(raw) > limit:
        raise TooLarge
    if raw.count(b"&") >= MAX_FIELDS:
        raise TooLarge("too many fields")
    if b"%00" in raw or b"\0" in raw:
        raise BadRequest("has a NUL character", code="request.encoding")
    try:
        fields = [one.partition("=") for one in raw.decode("ascii").split("&") if one]
        pairs = [(_decoded(name), _decoded(value)) for name, _, value in fields]
    except UnicodeDecodeError:
        raise BadRequest("not UTF-8", code="request.encoding") from None
    return pairs


def _decoded(text: str) -> str:
    """One name or value (URL Standard, 5.1), strictly UTF-8."""
    if "+" in text:
        text = text.replace("+", " ")
    return unquote(text, errors="strict") if "%" in text else text
