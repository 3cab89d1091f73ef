"""What a value in the YAML may be: annotated types for models, each refusing in words what it cannot be.

A validator says what is wrong and what would be right, without quoting the value: it may hold a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import PydanticCustomError, core_schema

from broker.core.errors import InvalidIdentifier
from broker.core.identifiers import parse_domain, parse_email
from broker.core.values import Secret

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
SHOWN = "***"
"""What stands in the place of a secret wherever a configuration is shown."""


def wrong(message: str, *, key: str | None = None) -> PydanticCustomError:
    """What a validator raises: `message` says what is wrong and what would be right.

    `key` moves the position in the report to a key below the validated value (`reset.url`), for validators of a whole
    model.
    """
    # The message goes in as context: braces in it are not a template.
    return PydanticCustomError("wrong", "{message}", {"message": message, "key": key})


class _SecretText:
    """Makes a `Secret` of a text, and never a text of a `Secret`."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def wrap(value: Any, inner: Callable[[Any], str]) -> Secret:
            return value if isinstance(value, Secret) else Secret(inner(value))

        return core_schema.no_info_wrap_validator_function(
            wrap,
            core_schema.str_schema(min_length=1, strict=True),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda _: SHOWN),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "format": "password", "writeOnly": True}


SecretText = Annotated[Secret, _SecretText]
"""A secret: `${ENV:NAME}` or `${FILE:path}` in the YAML, a `Secret` in the model, `***` wherever it is shown."""

_DURATION = re.compile(r"(0|[1-9][0-9]{0,8})(s|m|h|d)")
DURATION_PATTERN = f"^{_DURATION.pattern}$"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_duration(value: Any) -> timedelta:
    """`60s`, `30m`, `12h`, `30d`. Raises `PydanticCustomError`; never takes a bare number, whose unit is a guess."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise wrong("is not a duration; a number with its unit would be right, such as 60s, 30m, 12h or 30d")
    try:
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        raise wrong("is longer than a duration can be; at most 9999d would be right") from None


def format_duration(value: timedelta) -> str:
    """The shortest way to write it: `90s`, `30m`, `30d`."""
    seconds = int(value.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["60s", "30m", "12h", "30d"]}),
]
"""`60s`, `30m`, `12h`, `30d`."""


def between(shortest: str, longest: str) -> AfterValidator:
    """Bounds of a duration, inclusive."""
    low, high = parse_duration(shortest), parse_duration(longest)

    def check(value: timedelta) -> timedelta:
        if not low <= value <= high:
            raise wrong(f"is {format_duration(value)}; from {shortest} to {longest} would be right")
        return value

    return AfterValidator(check)


def split_address(value: str) -> SplitResult:
    """An absolute http or https address. Raises `PydanticCustomError` with the reason."""
    if not value.isascii() or any(c <= " " or c in '\\"<>`{}|^\x7f' for c in value):
        raise wrong("has characters that an address cannot have; percent-encode them")
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise wrong("is not an address; https://host/path would be right") from None
    if parts.scheme not in ("http", "https") or not host:
        raise wrong("is not an absolute address; https://host/path would be right")
    if "@" in parts.netloc:
        raise wrong("has a user name in it; an address without one would be right")
    if "#" in value:
        raise wrong("has a fragment; the address without # and what follows would be right")
    return parts


def is_loopback(parts: SplitResult) -> bool:
    return parts.hostname in LOOPBACK_HOSTS


def _web_address(value: str) -> str:
    parts = split_address(value)
    if parts.scheme == "http" and not is_loopback(parts):
        raise wrong("is http, which only loopback addresses may be; https:// would be right")
    return value


def _service_address(value: str) -> str:
    split_address(value)
    return value


def _issuer(value: str) -> str:
    parts = split_address(_web_address(value))
    if "?" in value:
        raise wrong("has a query; an issuer has none (RFC 8414 2)")
    if value.endswith("/"):
        raise wrong("ends with a slash; relying parties compare byte by byte, so write it without")
    if parts.netloc != parts.netloc.lower():
        raise wrong("has upper-case letters in its host; lower case would be right, it is compared byte by byte")
    return value


WebAddress = Annotated[str, AfterValidator(_web_address), WithJsonSchema({"type": "string", "format": "uri"})]
"""Where a browser is sent: https, or http on loopback; no user name, no fragment."""
ServiceAddress = Annotated[str, AfterValidator(_service_address), WithJsonSchema({"type": "string", "format": "uri"})]
"""What the broker itself calls: http or https. The Fetcher decides what may be reached (`egress`)."""
IssuerAddress = Annotated[str, AfterValidator(_issuer), WithJsonSchema({"type": "string", "format": "uri"})]
"""An issuer identifier of ours: https (or http on loopback), no query, no fragment, no trailing slash (RFC 8414 2)."""


def _domain(value: str) -> str:
    star = value.startswith("*.")
    if "@" in value:
        raise wrong("is not a domain; what stands behind the @ would be right, such as acme.example")
    try:
        domain = parse_domain(value[2:] if star else value)
    except InvalidIdentifier:
        raise wrong("is not a domain; acme.example or *.acme.example would be right") from None
    return f"*.{domain}" if star else domain


Domain = Annotated[str, AfterValidator(_domain)]
"""A domain of e-mail addresses, `acme.example`, or all below one, `*.acme.example`. Kept in A-labels, lower case."""


def _email(value: str) -> str:
    try:
        parse_email(value)
    except InvalidIdentifier:
        raise wrong("is not one e-mail address; ada@acme.example would be right") from None
    return value


EmailAddress = Annotated[str, AfterValidator(_email), WithJsonSchema({"type": "string", "format": "email"})]


def _named(pattern: str, words: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise wrong(f"is not usable as an id; {words} would be right")
        return value

    return AfterValidator(check)


_ID = r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?"
_TENANT = r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?"
_ENVIRONMENT = r"[a-z][a-z0-9]{0,14}"
ConnectionName = Annotated[
    str,
    _named(_ID, "lower-case letters, digits, - and _, at most 64,"),
    WithJsonSchema({"type": "string", "pattern": f"^{_ID}$"}),
]
"""Stands in addresses (`/callback/<connection>`)."""
TenantName = Annotated[
    str,
    _named(_TENANT, "lower-case letters, digits and -, at most 48,"),
    WithJsonSchema({"type": "string", "pattern": f"^{_TENANT}$"}),
]
EnvironmentName = Annotated[
    str,
    _named(_ENVIRONMENT, "a lower-case word such as test or dev, at most 15 letters and digits,"),
    WithJsonSchema({"type": "string", "pattern": f"^{_ENVIRONMENT}$"}),
]
