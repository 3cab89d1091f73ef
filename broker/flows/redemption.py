"""A mailed link, opened and used: reset, verify an address, invitation, one-time login.

Looking changes nothing. Only the POST that carries an accepted password consumes (SECURITY 8), in the SQL transaction
of its effect (SECURITY 1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from broker.core.errors import BrokerError, NotFound
from broker.core.events import Action, Event
from broker.core.policy import MAIL_ONLY
from broker.core.tenant import AfterReset, Client, Tenant
from broker.core.ticket import Purpose, Ticket, TicketState, judge
from broker.core.transaction import Transaction
from broker.core.values import Actor, ConnectionId, Identity, User
from broker.flows.guard import Guard
from broker.flows.means import Means
from broker.flows.passwords import Circumstances, Passwords


class LinkRefused(BrokerError):
    """The link does not work (any more). Its page says why, and what to do."""

    code, status = "ticket.refused", 410

    def __init__(self, opened: Opened) -> None:
        super().__init__(code=f"ticket.{opened.state}")
        self.opened = opened
        self.status = {TicketState.MANGLED: 404, TicketState.ELSEWHERE: 404}.get(opened.state, 410)


@dataclass(frozen=True)
class Opened:
    """What a link is, and for whom."""

    state: TicketState
    ticket: Ticket | None = None
    user: User | None = None


@dataclass(frozen=True)
class Redeemed:
    """The new password is saved. What follows depends on `rules.reset.after` and on which browser this is."""

    user: User
    ticket: Ticket
    identity: Identity
    after: AfterReset
    client: Client | None
    """The app to go home to."""
    transaction: Transaction | None
    """The app's own request, if it waits in this very browser."""


@dataclass(frozen=True)
class Redemption:
    means: Means
    guard: Guard
    passwords: Passwords

    def open(self, tenant: Tenant, secret: str, purpose: Purpose) -> Opened:
        """Look at a link. Changes nothing, however often and by whomever."""
        with self.means.database.reading() as work:
            ticket = work.tickets.look(secret)
            user = work.users.get(ticket.user) if ticket is not None else None
        state = judge(ticket, purpose, tenant.directory, user, self.means.clock.now())
        if state in (TicketState.MANGLED, TicketState.ELSEWHERE):
            return Opened(state)
        return Opened(state, ticket, user)

    def redeem(
        self, tenant: Tenant, secret: str, purpose: Purpose, password: str, how: Circumstances, *, browser: str | None
    ) -> Redeemed:
        """Set the password that came with a link.

        Raises `LinkRefused`, `PasswordRefused` (nothing was consumed), `Throttled`, `Busy`.
        """
        self.guard.link(tenant, how.address)
        opened = self.open(tenant, secret, purpose)
        if opened.state is not TicketState.VALID or opened.user is None or opened.ticket is None:
            raise LinkRefused(opened)
        user, now = opened.user, self.means.clock.now()
        with self.means.database.reading() as work:
            current = work.users.hash_of(user.id)
        hash = self.passwords.prepare(tenant, user, password, current)
        try:
            with self.means.database.writing() as work:
                proof = work.tickets.redeem(secret, purpose, tenant.directory, user.epoch, now)
                fresh = work.users.get(user.id)
                if proof is None or fresh is None or fresh.blocked or fresh.email != proof.ticket.address:
                    # Raised inside the transaction: whatever redeem did is rolled back with it.
                    raise _NotThisOne
                written = self.passwords.write(work, tenant, fresh, hash, proof, Actor.user(user.id), how=how)
                if purpose in _PROVES_ADDRESS and not written.email_verified:
                    written = work.users.update(user.id, lambda one: replace(one, email_verified=True))
                    verified = Action.EMAIL_VERIFIED
                    work.audit.write(
                        Event(now, tenant.directory, Actor.user(user.id), verified, user.id, {}, how.reference)
                    )
                done = Action.LOGIN_LINK_USED if purpose is Purpose.SIGN_IN_ONCE else Action.RESET_DONE
                work.audit.write(Event(now, tenant.directory, Actor.user(user.id), done, user.id, {}, how.reference))
        except _NotThisOne:
            # Only now is the connection given back: when all that there are wait for another one, nobody gets on.
            raise LinkRefused(self.open(tenant, secret, purpose)) from None
        return self._what_follows(tenant, written, proof.ticket, browser)

    def _what_follows(self, tenant: Tenant, user: User, ticket: Ticket, browser: str | None) -> Redeemed:
        entry = ticket.connection or user.connection
        if entry is None:
            raise NotFound(code="connection.unknown")
        now = self.means.clock.now()
        identity = Identity(ConnectionId(entry), tenant.issuer, user.id, now, MAIL_ONLY)
        waiting = None
        if ticket.transaction and browser and ticket.browser == browser:
            # Only in the browser that asked: a stored state or nonce is never replayed elsewhere.
            waiting = self.means.transactions.get(ticket.transaction, browser)
            if waiting is not None and (
                waiting.finished or waiting.tenant != tenant.id or tenant.client(waiting.client) is None
            ):
                waiting = None
        # A link that an operator made is meant to sign its user in, whatever the tenant chose for forgotten passwords.
        after = AfterReset.SIGNED_IN if ticket.purpose is Purpose.SIGN_IN_ONCE else tenant.rules.reset.after
        client = tenant.clients.get(ticket.client) if ticket.client else None
        return Redeemed(user, ticket, identity, after, client, waiting)


class _NotThisOne(Exception):
    """The link is good for nothing any more. Takes back what its unit of work did."""


_PROVES_ADDRESS = frozenset({Purpose.RESET, Purpose.VERIFY_EMAIL, Purpose.INVITE})
