"""Errors that a person or a program is told about. Each carries a stable code; the texts live in templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class BrokerError(Exception):
    """Something that has a stable readable code (`ticket.used`), an HTTP status, and facts for its page.

    `facts` are shown to people: never a secret, never something that depends on whether an account exists.
    """

    code = "internal"
    status = 500

    def __init__(self, detail: str = "", *, code: str | None = None, **facts: Any) -> None:
        super().__init__(detail or code or self.code)
        self.detail = detail
        self.facts: Mapping[str, Any] = facts
        if code is not None:
            self.code = code


class BadRequest(BrokerError):
    """What was sent cannot be right: arrays, duplicates, non-UTF-8, an unknown client. Nothing was changed."""

    code, status = "request.invalid", 400


class PageExpired(BrokerError):
    """The transaction behind a form is gone, or belongs to another browser."""

    code, status = "transaction.gone", 400


class CookiesBlocked(BrokerError):
    """A form came back without the cookie that its page had set."""

    code, status = "cookies.blocked", 400


class InvalidTransition(BrokerError):
    """A step was asked for that the transaction cannot take now."""

    code, status = "transaction.step", 409


class Denied(BrokerError):
    """The person is known, and may not do this."""

    code, status = "access.denied", 403


class NotFound(BrokerError):
    code, status = "page.not_found", 404


class Misdirected(BrokerError):
    """The request came for a host that is not ours (RFC 9110 15.5.20). Host headers never make an address."""

    code, status = "host.unknown", 421


class Throttled(BrokerError):
    """Too many attempts. `retry_after` is in seconds."""

    code, status = "attempts.throttled", 429

    def __init__(self, retry_after: int, detail: str = "", *, code: str | None = None, **facts: Any) -> None:
        super().__init__(detail, code=code, retry_after=retry_after, **facts)
        self.retry_after = retry_after


class ChallengeNeeded(BrokerError):
    """Passwords are being tried in masses: a form must come with a solved challenge. Nothing was looked at."""

    code, status = "challenge.needed", 403


class Busy(BrokerError):
    """A bounded resource (the hash pool) is full. Nothing was decided; the same request works later."""

    code, status = "service.busy", 503

    def __init__(self, detail: str = "", *, retry_after: int = 2, code: str | None = None) -> None:
        super().__init__(detail, code=code, retry_after=retry_after)
        self.retry_after = retry_after


class Unavailable(BrokerError):
    """A store or a directory that we need does not answer. Fails closed: nobody is let in."""

    code, status = "service.unavailable", 503


class JobLost(BrokerError):
    """The lease of a job ended before the job did: somebody else has it, or has done it. Nothing was written."""

    code = "job.lost"


class ConnectionFailed(BrokerError):
    """A connection could not say who somebody is.

    Codes: `connection.denied` (the person said no), `connection.unavailable` (it does not answer),
    `connection.invalid` (its answer cannot be trusted), `connection.misconfigured`, `connection.unknown_user`,
    `connection.no_email`. The detail goes to the log, never to the page: it may quote the upstream.
    """

    code, status = "connection.unavailable", 502


class IdentifierTaken(BrokerError):
    """A username or an address already belongs to somebody in this directory."""

    code, status = "identifier.taken", 409


class InvalidIdentifier(BrokerError):
    """Not an address or username that we accept (SECURITY 16). `detail` says why, for people."""

    code, status = "identifier.invalid", 400


class ConfigurationError(BrokerError):
    """The configuration cannot be used. `problems` are lines `file:line:column: key: what, what instead`."""

    code, status = "configuration.invalid", 500

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
