"""A login in progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Any

from broker.core.errors import InvalidTransition
from broker.core.values import ClientId, ConnectionId, Identity, SessionId, TenantId, TransactionId, UserId


@dataclass(frozen=True, slots=True)
class Transaction:
    """The app's request, verbatim, and what has been established so far.

    Frozen: every transition returns a new value, or raises `InvalidTransition`. It never carries permission to
    write a password: that is a Proof (SECURITY 1, Keycloak CVE-2026-18963).
    """

    id: TransactionId
    tenant: TenantId
    client: ClientId
    config_version: str
    request: Mapping[str, str]
    browser: str
    """Digest of the browser cookie that this login is bound to."""
    started_at: datetime
    expires_at: datetime
    connection: ConnectionId | None = None
    identifier: str | None = None
    """What was typed, for the next page to show; says nothing about whether such an account exists."""
    upstream: Mapping[str, str] | None = None
    """Private values of a departure: state, nonce, PKCE verifier. Taken when the person comes back."""
    identity: Identity | None = None
    user: UserId | None = None
    epoch: int = 0
    session: SessionId | None = None
    """The browser session that `identity` was taken from, or that this login will renew."""
    interactive: bool = False
    """Whether the person signed in within this transaction (for `prompt=login`), not before it."""
    factors: tuple[str, ...] = ()
    selected: bool = False
    """Whether an account was chosen within this transaction (for `prompt=select_account`)."""
    consented: tuple[str, ...] | None = None
    finished: bool = False
    notice: str | None = None
    """A message for the next page: `mail_sent`, `password_changed`, `upstream_cancelled`, ..."""
    version: int = 0

    def choose(self, connection: ConnectionId, identifier: str | None = None) -> Transaction:
        """Sign in with this connection. A person may change their mind until they are identified."""
        return self._move(
            self.identity is None,
            connection=connection,
            identifier=identifier or self.identifier,
            upstream=None,
            notice=None,
        )

    def forget_choice(self, notice: str | None = None) -> Transaction:
        """Back to the first page, keeping what was typed."""
        return self._move(self.identity is None, connection=None, upstream=None, notice=notice)

    def depart(self, private: Mapping[str, str]) -> Transaction:
        """Off to the connection's provider, keeping what must match when the person comes back."""
        return self._move(self.connection is not None and self.identity is None, upstream=dict(private), notice=None)

    def identify(self, identity: Identity, user: UserId, epoch: int, identifier: str | None = None) -> Transaction:
        """Somebody signed in here and now, through the chosen connection; `identifier` is what they typed for it."""
        return self._move(
            self.identity is None and identity.connection == self.connection,
            identity=identity,
            user=user,
            epoch=epoch,
            identifier=identifier or self.identifier,
            interactive=True,
            selected=True,
            upstream=None,
            notice=None,
        )

    def recognise(
        self, identity: Identity, user: UserId, epoch: int, session: SessionId, factors: tuple[str, ...] = ()
    ) -> Transaction:
        """Somebody is already signed in on this browser."""
        return self._move(
            self.identity is None,
            identity=identity,
            user=user,
            epoch=epoch,
            session=session,
            factors=factors,
            connection=identity.connection,
            upstream=None,
        )

    def reauthenticate(self) -> Transaction:
        """Forget who is signed in: `prompt=login`, `max_age`, a moved epoch, or another account."""
        return self._move(
            True,
            identity=None,
            user=None,
            epoch=0,
            connection=None,
            upstream=None,
            interactive=False,
            factors=(),
            consented=None,
            selected=False,
        )

    def select(self) -> Transaction:
        """The person chose the account that is signed in."""
        return self._move(self.identity is not None, selected=True)

    def pass_factor(self, factor: str) -> Transaction:
        return self._move(self.identity is not None and factor not in self.factors, factors=(*self.factors, factor))

    def consent(self, scopes: tuple[str, ...]) -> Transaction:
        return self._move(self.user is not None, consented=scopes)

    def finish(self) -> Transaction:
        """The last transition: a transaction yields one code."""
        return self._move(self.user is not None and self.identity is not None, finished=True)

    def note(self, notice: str | None, identifier: str | None = None) -> Transaction:
        """Leave a message for the next page."""
        return self._move(True, notice=notice, identifier=identifier or self.identifier)

    def _move(self, allowed: bool, **changes: Any) -> Transaction:
        if self.finished:
            raise InvalidTransition(self.id, code="transaction.finished")
        if not allowed:
            raise InvalidTransition(self.id)
        values = dict(zip(_NAMES, _values(self), strict=True))
        values.update(changes, version=self.version + 1)
        return Transaction(**values)

    # What the app asked for, typed. Parameters were validated when the transaction was opened.

    @property
    def scopes(self) -> tuple[str, ...]:
        return tuple(self.request.get("scope", "").split())

    @property
    def prompts(self) -> frozenset[str]:
        return frozenset(self.request.get("prompt", "").split())

    @property
    def max_age(self) -> int | None:
        """Seconds."""
        value = self.request.get("max_age")
        return int(value) if value is not None else None


# `dataclasses.replace` asks each of the 21 fields about itself, which takes twice as long.
_NAMES = tuple(field.name for field in fields(Transaction))
_values = attrgetter(*_NAMES)
