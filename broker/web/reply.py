"""An answer that is ready to leave: status, headers, bytes.

It is a WSGI application itself, so a view may return it to Flask as it is. Werkzeug's response would look through its
headers four times on the way, for what none of our pages needs (docs/decisions/hot-paths.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, TypeAlias

from markupsafe import escape
from werkzeug.urls import iri_to_uri
from werkzeug.wrappers import Response

Environ: TypeAlias = dict[str, Any]
WsgiApp: TypeAlias = Callable[[Environ, Any], Iterable[bytes]]

HTML = ("Content-Type", "text/html; charset=utf-8")
_STATUS = {one.value: f"{one.value} {one.phrase.upper()}" for one in HTTPStatus}
_ADDRESS = re.compile(r"[!-~]+", re.ASCII)


class Reply:
    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = [*headers]
        if status != 304:  # which stands for a body of another length (RFC 9110 8.6)
            self.headers.append(("Content-Length", str(len(body))))
        self.body = body

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response(_STATUS[self.status], self.headers)
        return (self.body,)


AnyReply: TypeAlias = Reply | Response


def see_other(url: str) -> Reply:
    """303 (RFC 9110 15.4.4): whatever was asked by, the browser goes on with a GET. Raises `ValueError`."""
    if not _ADDRESS.fullmatch(url):
        url = iri_to_uri(url)
        if not _ADDRESS.fullmatch(url):
            raise ValueError("not an address: it would break the header")
    return Reply(303, (("Location", url), HTML), f'<a href="{escape(url)}">Go on</a>\n'.encode())
