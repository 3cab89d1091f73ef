"""/dev/mailbox: the mails that the demo sent, to read in the browser. Never part of `homerealm serve`."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Blueprint, Response

from broker.core.errors import NotFound
from broker.web import errors
from broker.web.headers import security_headers
from broker.web.pages import Chrome, Page
from broker.web.pages_error import MailboxMessagePage, MailboxPage, MailRow
from broker.web.visit import house

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as AnyResponse

SHOWN = 200


def mailbox(folders: Sequence[Path], address: str = "/dev/mailbox") -> Blueprint:
    """A viewer of maildirs. The newest mail is the first."""
    views = Blueprint("homerealm_mailbox", __name__)
    sandbox = "default-src 'none'; style-src 'unsafe-inline'; sandbox allow-popups"
    errors.register(views)

    def files() -> dict[str, Path]:
        found = [
            path
            for folder in folders
            for part in ("new", "cur")
            for path in (folder / part).glob("*")
            if path.is_file()
        ]
        found.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        return {path.name.partition(":")[0]: path for path in found[:SHOWN]}

    def read(id: str) -> tuple[MailRow, EmailMessage]:
        path = files().get(id)
        if path is None:
            raise NotFound
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        return _row(id, message), message

    def page(content: Page) -> AnyResponse:
        frame = Chrome("Mailbox of the demo", "", lambda _: "")
        response = Response(house().render(content, frame), 200, mimetype="text/html")
        headers = dict(security_headers())
        response.headers.extend(headers)
        return response

    @views.get(address)
    def inbox() -> AnyResponse:
        return page(MailboxPage(tuple(read(id)[0] for id in files()), address))

    @views.get(f"{address}/<id>")
    def message(id: str) -> AnyResponse:
        row, found = read(id)
        text = found.get_body(("plain",))
        html = found.get_body(("html",))
        content = MailboxMessagePage(
            row,
            str(found["From"]),
            text.get_content() if text else "",
            f"{address}/{id}/html" if html else None,
            address,
        )
        return page(content)

    @views.get(f"{address}/<id>/html")
    def html_part(id: str) -> AnyResponse:
        _, found = read(id)
        part = found.get_body(("html",))
        if part is None:
            raise NotFound
        response = Response(part.get_content(), 200, mimetype="text/html")
        response.headers["Content-Security-Policy"] = sandbox
        return response

    return views


def _row(id: str, message: EmailMessage) -> MailRow:
    date = message["Date"]
    at = parsedate_to_datetime(str(date)) if date else datetime.fromtimestamp(0, UTC)
    return MailRow(id, str(message["To"]), str(message["Subject"]), str(message["X-Homerealm-Mail"] or ""), at)
