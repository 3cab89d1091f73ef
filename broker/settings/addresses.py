"""Where stores, mail and networks are: the syntax of their addresses. Whether anything answers there is for
`homerealm check --live`."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import AfterValidator

from broker.core.errors import InvalidIdentifier
from broker.core.identifiers import parse_domain, parse_email
from broker.core.store_address import parse_store_address
from broker.settings.types import LOOPBACK_HOSTS, wrong

SQLITE = "sqlite:///"
MAILDIR = "maildir:"
_SECRET_OPTION = re.compile(r"([?&]sentinel_password=)[^&#]*")
_MAILBOX = re.compile(r'(?:(?P<name>[^<>"\r\n]*|"[^"\\\r\n]*") *)?<(?P<address>[^<>]+)>')


def _split(value: str, example: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise wrong(f"is not an address; {example} would be right") from None
    return parts


def _database(value: str) -> str:
    if value.startswith(SQLITE):
        path = value.removeprefix(SQLITE)
        if path in ("", ":memory:") or "?" in path:
            raise wrong("is no file; sqlite:///var/homerealm.db would be right")
        return value
    parts = _split(value, "sqlite:///var/homerealm.db or postgresql://user@host/name")
    if parts.scheme not in ("postgresql", "postgresql+psycopg"):
        raise wrong(
            "is not a database we know; sqlite:///var/homerealm.db or postgresql://user@host/name would be right"
        )
    if not parts.path.strip("/"):
        raise wrong("names no database; postgresql://user@host/name would be right")
    return value


def _key_value(value: str) -> str:
    if value == "embedded":
        return value
    try:
        parse_store_address(value)
    except ValueError as error:
        raise wrong(str(error)) from None
    return value


def _transport(value: str) -> str:
    if value == "console:":
        return value
    if value.startswith(MAILDIR):
        folder = value.removeprefix(MAILDIR)
        if not folder or folder.startswith("//") or any(character in folder for character in "?#\0"):
            raise wrong("names no folder; maildir:var/mail would be right")
        return value
    example = "smtp://user:password@host:587?tls=starttls"
    parts = _split(value, example)
    if parts.scheme not in ("smtp", "smtps"):
        raise wrong(
            f"is not a mail transport we know; {example}, smtps://host, maildir:var/mail or console: would be right"
        )
    if not parts.hostname or parts.path.strip("/") or parts.fragment:
        raise wrong(f"is not the address of a mail server; {example} would be right")
    _transport_options(parts)
    return value


def _transport_options(parts: SplitResult) -> None:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    tls = options.pop("tls", None)
    if options.keys() - {"ca_bundle"}:
        raise wrong("has an option we do not know; ?tls=starttls, ?tls=none or ?ca_bundle=file would be right")
    if tls not in ((None,) if parts.scheme == "smtps" else (None, "starttls", "none")):
        raise wrong("has a tls we do not know; smtps://, ?tls=starttls or ?tls=none would be right")
    if tls == "none" and parts.username and parts.hostname not in LOOPBACK_HOSTS:
        raise wrong("would send its password in the clear; ?tls=starttls or smtps:// would be right")


def _mailbox(value: str) -> str:
    match = _MAILBOX.fullmatch(value)
    try:
        parse_email(match["address"] if match else value)
    except InvalidIdentifier:
        raise wrong('is not a sender; "Acme <no-reply@acme.example>" would be right') from None
    return value


def _recipients(value: str) -> str:
    _, at, domain = value.rpartition("@")
    try:
        if not at:
            raise InvalidIdentifier("no @")
        parse_domain(domain.removeprefix("*."))
    except InvalidIdentifier:
        raise wrong("is no pattern of addresses; *@acme.example or ada@acme.example would be right") from None
    return value


def _network(value: str) -> str:
    try:
        return str(ip_network(value, strict=True))
    except ValueError:
        pass
    try:
        meant = ip_network(value, strict=False)
    except ValueError:
        raise wrong("is not a network; 10.0.0.0/8 or fd00::/8 would be right") from None
    raise wrong(f"has bits behind its prefix; {meant} would be right")


def _reachable(value: str) -> str:
    """A network, an address, or a host name."""
    if "/" in value:
        return _network(value)
    try:
        return str(ip_address(value))
    except ValueError:
        pass
    try:
        # 10.0.0.300 would pass for a host name.
        if value.replace(".", "").isdigit():
            raise InvalidIdentifier("an address with a mistake")
        return parse_domain(value)
    except InvalidIdentifier:
        raise wrong("is neither a network nor a host; 10.0.0.0/8, 127.0.0.1 or sso.internal would be right") from None


DatabaseAddress = Annotated[str, AfterValidator(_database)]
KeyValueAddress = Annotated[str, AfterValidator(_key_value)]
TransportAddress = Annotated[str, AfterValidator(_transport)]
Mailbox = Annotated[str, AfterValidator(_mailbox)]
RecipientPattern = Annotated[str, AfterValidator(_recipients)]
Network = Annotated[str, AfterValidator(_network)]
Reachable = Annotated[str, AfterValidator(_reachable)]


def database_under(root: Path, value: str) -> str:
    """A relative file starts at `root`."""
    return f"{SQLITE}{root / value.removeprefix(SQLITE)}" if value.startswith(SQLITE) else value


def transport_under(root: Path, value: str) -> str:
    """A relative folder starts at `root`."""
    return f"{MAILDIR}{root / value.removeprefix(MAILDIR)}" if value.startswith(MAILDIR) else value


def without_password(value: str) -> str:
    """An address as it may be shown."""
    value = _SECRET_OPTION.sub(r"\1***", value)
    try:
        parts = urlsplit(value)
        if parts.password is None:
            return value
    except ValueError:
        return "***"
    user, _, host = parts.netloc.rpartition("@")
    return value.replace(f"{user}@{host}", f"{user.partition(':')[0]}:***@{host}", 1)
