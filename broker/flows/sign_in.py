"""Signing in: one transaction from the app's request to the code.

Every step ends by asking the policy again; what it answers is the next page. No step knows which one follows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from broker.core.connection import Arrival, Departure, Hint, LocalPasswords, PasswordSignIn, RedirectSignIn
from broker.core.discovery import by_domain
from broker.core.errors import BrokerError, ConnectionFailed, InvalidTransition, NotFound, PageExpired
from broker.core.events import Action, Event
from broker.core.identifiers import parse_identifier
from broker.core.policy import Check, Situation, Step, next_step
from broker.core.ports import Rider
from broker.core.tenant import Client, ConnectionEntry, Tenant
from broker.core.transaction import Transaction
from broker.core.values import (
    Actor,
    ConnectionId,
    Grant,
    GrantId,
    Identity,
    Session,
    SessionId,
    TransactionId,
    User,
    UserId,
)
from broker.flows.accounts import Accounts
from broker.flows.guard import Account, Guard, Origin
from broker.flows.means import AnyConnection, Means
from broker.flows.passwords import Circumstances

NOWHERE = Circumstances()


class SignInRefused(BrokerError):
    """Unknown person or wrong password: one error for both."""

    code, status = "password.wrong", 422


@dataclass(frozen=True)
class Next:
    """What a login needs now."""

    step: Step
    check: Check | None
    transaction: Transaction
    client: Client
    user: User | None = None
    also: tuple[Rider, ...] = ()
    """What the key-value store changes along with this step, whichever it is."""
    known_device: str | None = None
    """The cookie of a device that has just given a right password (flows/known_device)."""


@dataclass(frozen=True)
class Finished:
    """A login that is over. `secret` is the new session cookie's value, None when the old one stays."""

    transaction: Transaction
    client: Client
    user: User
    session: Session
    secret: str | None
    code: str | None
    """None for our own pages, which need no code."""


@dataclass(frozen=True)
class Visitor:
    """The browser in front of us, as far as flows may know it."""

    browser: str
    """Digest of its browser cookie."""
    session: Session | None = None
    secret: str | None = None
    how: Circumstances = NOWHERE


@dataclass(frozen=True)
class SignIn:
    means: Means
    accounts: Accounts
    guard: Guard

    # --- Opening and asking -------------------------------------------------------------------------------------

    def begin(self, tenant: Tenant, client: Client, request: Mapping[str, str], visitor: Visitor, version: str) -> Next:
        """A request of an app, validated. Not stored yet: a login that needs no page leaves no trace."""
        now = self.means.clock.now()
        transaction = Transaction(
            id=TransactionId(self.means.entropy.token(18)),
            tenant=tenant.id,
            client=client.client_id,
            config_version=version,
            request=dict(request),
            browser=visitor.browser,
            started_at=now,
            expires_at=now + tenant.rules.lifetimes.transaction,
            identifier=(request.get("login_hint") or "")[:254] or None,
        )
        session = visitor.session
        if session is not None and self._usable(tenant, client, session):
            transaction = transaction.recognise(
                session.identity, session.user, session.epoch, session.id, session.factors
            )
        following = self.ask(tenant, transaction)
        chosen = request.get("connection")
        if following.step is Step.CHOOSE_CONNECTION and chosen in {one.id for one in tenant.connections_of(client)}:
            following = self.ask(tenant, following.transaction.choose(ConnectionId(chosen or "")))
        return following

    def open(self, transaction: Transaction) -> None:
        """Keep a login that needs a page."""
        self.means.transactions.open(transaction)

    def _usable(self, tenant: Tenant, client: Client, session: Session) -> bool:
        """Whether a session counts for this app: its connection is still there, and the app offers it."""
        return session.directory == tenant.directory and self._offers(tenant, client, session.identity.connection)

    def _offers(self, tenant: Tenant, client: Client, connection: ConnectionId) -> bool:
        return any(one.id == connection for one in tenant.connections_of(client))

    def ask(self, tenant: Tenant, transaction: Transaction, just_read: User | None = None) -> Next:
        """What comes next. Status and epoch of the user are read now (SECURITY 3), unless this very step has just done
        it: `just_read` is the transaction's user.

        A demand to sign in again is answered by forgetting who is signed in, unless that itself is refused
        (`prompt=none`): then the step says REAUTHENTICATE.
        """
        client = tenant.client(transaction.client)
        if client is None:
            raise PageExpired(code="client.gone")
        user, granted = just_read, frozenset[str]()
        if transaction.user is not None:
            if user is None or not client.first_party:
                database = self.means.database
                with database.asking() if client.first_party else database.reading() as work:
                    user = work.users.get(transaction.user)
                    if not client.first_party:
                        granted = work.consents.granted(transaction.user, client.client_id)
            if user is not None and user.directory != tenant.directory:
                user = None
            if transaction.identity and not self._offers(tenant, client, transaction.identity.connection):
                user = None
        elif transaction.connection is not None and not self._offers(tenant, client, transaction.connection):
            transaction = transaction.forget_choice()
        situation = Situation(transaction, client, self.means.clock.now(), user, granted)
        step, check = next_step(situation)
        if step is Step.REAUTHENTICATE and "none" not in transaction.prompts:
            return self.ask(tenant, transaction.reauthenticate())
        return Next(step, check, transaction, client, user)

    def load(self, tenant: Tenant, id: str, browser: str) -> Transaction:
        """Raises `PageExpired` when it is gone, finished, of another browser or another tenant."""
        transaction = self.means.transactions.get(id, browser) if id else None
        if transaction is None or transaction.tenant != tenant.id:
            raise PageExpired
        if transaction.finished:
            raise PageExpired(code="transaction.finished")
        return transaction

    def rested(self, transaction: Transaction, visitor: Callable[[], Visitor]) -> Transaction:
        """The login as it stands in this browser now.

        One that took its person from a browser session ends with that session: who signed out meanwhile, or is
        somebody else by now, is asked again (SECURITY 3). Only then does it cost a look at the session.
        """
        if transaction.identity is None or transaction.interactive:
            return transaction
        session = visitor().session
        if session is not None and session.id == transaction.session:
            return transaction
        return self.keep(transaction, transaction.reauthenticate())

    def keep(self, before: Transaction, after: Transaction, also: Sequence[Rider] = ()) -> Transaction:
        """Save a move. Raises `InvalidTransition` when another request of the same login was faster."""
        if after is not before and not self.means.transactions.save(before, after, also=also):
            raise InvalidTransition(before.id, code="transaction.raced")
        return after

    # --- Who are you? -------------------------------------------------------------------------------------------

    def identify(self, tenant: Tenant, transaction: Transaction, typed: str) -> Next:
        """An identifier was typed: its domain's connection, else the first one that takes passwords.

        Raises `InvalidIdentifier`, `NotFound("connection.none_for_identifier")`.
        """
        parse_identifier(typed)
        client = tenant.client(transaction.client)
        offered = tenant.connections_of(client)
        entry = by_domain(offered, typed)
        if entry is None and transaction.connection is not None:
            chosen = tenant.connection(transaction.connection)
            entry = chosen if chosen and self._takes_passwords(tenant, chosen) else None
        if entry is None:
            entry = next((one for one in offered if self._takes_passwords(tenant, one)), None)
        if entry is None:
            raise NotFound(code="connection.none_for_identifier")
        if transaction.identity is not None:
            transaction = transaction.reauthenticate()
        return self.ask(tenant, transaction.choose(entry.id, typed.strip()))

    def choose(self, tenant: Tenant, transaction: Transaction, connection: str) -> Next:
        """A button was pressed. Raises `NotFound` for a connection that the app does not offer."""
        client = tenant.client(transaction.client)
        if connection not in {one.id for one in tenant.connections_of(client)}:
            raise NotFound(code="connection.unknown")
        if transaction.identity is not None:
            transaction = transaction.reauthenticate()
        return self.ask(tenant, transaction.choose(ConnectionId(connection)))

    def _takes_passwords(self, tenant: Tenant, entry: ConnectionEntry) -> bool:
        return isinstance(self.means.connections(tenant, entry.id), PasswordSignIn)

    def chosen(self, tenant: Tenant, transaction: Transaction) -> AnyConnection:
        """The connection of a login. Raises `InvalidTransition` before one is chosen."""
        if transaction.connection is None:
            raise InvalidTransition(transaction.id)
        return self.means.connection(tenant, transaction.connection)

    def password(self, tenant: Tenant, transaction: Transaction, typed: str, password: str, origin: Origin) -> Next:
        """A password was typed. Counted before it is looked at.

        Raises `SignInRefused`, `Throttled`, `ChallengeNeeded`, `Busy`, `ConnectionFailed`, `InvalidTransition`.
        """
        connection = self.chosen(tenant, transaction)
        local = connection if isinstance(connection, LocalPasswords) else None
        if not isinstance(connection, PasswordSignIn) or transaction.identity is not None:
            raise InvalidTransition(transaction.id)
        found = local.look_up(typed) if local is not None else None
        account = Account(typed, found.user if found is not None else None)
        counted = self.guard.password(tenant, account, origin)
        with self.means.hasher.asked_by(counted.asker, first=counted.known):
            identity = local.compare(found, password) if local else connection.check_password(typed, password)
        if identity is None:
            raise SignInRefused
        forgiven = self.guard.password_was_right(counted)
        user = self.accounts.resolve(tenant, identity)
        if identity.private.get("epoch", str(user.epoch)) != str(user.epoch):
            raise SignInRefused  # a new password was saved while the old one was being compared
        one = self.ask(tenant, transaction.identify(identity, user.id, user.epoch, typed), user)
        device = self.guard.known_device(tenant, account, origin.device)
        return Next(one.step, one.check, one.transaction, one.client, one.user, (forgiven,), device)

    # --- Signing in upstream --------------------------------------------------------------------------------------

    def depart(self, tenant: Tenant, transaction: Transaction, language: str) -> tuple[Transaction, Departure]:
        """Off to the provider. Raises `ConnectionFailed`, `InvalidTransition`."""
        connection = self.chosen(tenant, transaction)
        if not isinstance(connection, RedirectSignIn):
            raise InvalidTransition(transaction.id)
        nonce = self.means.entropy.token(16)
        hint = self._hint(tenant, transaction, language)
        departure = connection.depart(f"{transaction.id}.{nonce}", f"{tenant.issuer}/callback/{connection.id}", hint)
        return transaction.depart({**departure.private, "_state": nonce}), departure

    def _hint(self, tenant: Tenant, transaction: Transaction, language: str) -> Hint:
        client = tenant.client(transaction.client)
        max_age = transaction.max_age
        if max_age is None and client is not None:
            max_age = client.default_max_age
        return Hint(
            identifier=transaction.identifier,
            force_login="login" in transaction.prompts,
            max_age=max_age,
            select_account="select_account" in transaction.prompts,
            language=language,
        )

    def arrive(
        self, tenant: Tenant, connection_id: str, params: Mapping[str, str], visitor: Visitor, before: Transaction
    ) -> tuple[Transaction, Next]:
        """Back from the provider; `before` is the login that its `state` names. Returns the transaction as it was, and
        what comes next.

        The private values are spent before the provider is asked, so that one departure has one arrival.
        Raises `PageExpired`, `ConnectionFailed` (with `transaction` on it, for the page).
        """
        nonce = params.get("state", "").partition(".")[2]
        private = dict(before.upstream or {})
        if before.connection != connection_id or not nonce or private.pop("_state", None) != nonce:
            raise PageExpired(code="connection.state")
        connection = self.chosen(tenant, before)
        if not isinstance(connection, RedirectSignIn):
            raise PageExpired(code="connection.state")
        spent = self.keep(before, before.choose(before.connection))
        arrival = Arrival(
            params,
            private,
            f"{tenant.issuer}/callback/{connection_id}",
            self._hint(tenant, before, visitor.how.language),
        )
        try:
            identity = connection.arrive(arrival)
            user = self.accounts.resolve(tenant, identity)
        except ConnectionFailed as failure:
            raise ArrivalFailed(spent, failure) from failure
        return spent, self.ask(tenant, spent.identify(identity, user.id, user.epoch))

    # --- The end ----------------------------------------------------------------------------------------------------

    def finish(self, tenant: Tenant, following: Next, visitor: Visitor, *, stored: bool = True) -> Finished:
        """Issue: close the transaction for exactly one caller, open or renew the session, make the code.

        Raises `InvalidTransition("transaction.finished")` for everybody but the first.
        """
        transaction, user, client = following.transaction, following.user, following.client
        if following.step is not Step.ISSUE or user is None or transaction.identity is None:
            raise InvalidTransition(transaction.id)
        session, secret = self._session(tenant, transaction, user, client, visitor)
        grant = None if client.internal else self._grant(tenant, transaction, user, client, session)
        code = self.means.logins.new_code(transaction) if grant else None
        finished = transaction.finish()
        if not self.means.logins.finish(
            finished, session=session, session_secret=secret or visitor.secret, code=code, grant=grant, stored=stored,
            code_lifetime=tenant.rules.lifetimes.code, also=following.also,
        ):  # fmt: skip
            raise InvalidTransition(transaction.id, code="transaction.finished")
        if secret and visitor.session is not None and visitor.session.id != session.id:
            self.means.sessions.close(visitor.session.id)
        return Finished(finished, client, user, session, secret, code)

    def _session(
        self, tenant: Tenant, transaction: Transaction, user: User, client: Client, visitor: Visitor
    ) -> tuple[Session, str | None]:
        """The session after this login. A new secret at every sign-in (SECURITY 10)."""
        now, old = self.means.clock.now(), visitor.session
        identity = transaction.identity
        if identity is None:
            raise InvalidTransition(transaction.id)
        if old is not None and not transaction.interactive and old.id == transaction.session:
            if client.internal or client.client_id in old.clients:
                return old, None
            return replace(old, clients=(*old.clients, client.client_id)), None
        same = old is not None and old.user == user.id
        clients = old.clients if old is not None and same else ()
        if not client.internal and client.client_id not in clients:
            clients = (*clients, client.client_id)
        session = Session(
            id=old.id if old is not None and same else SessionId(self.means.entropy.token(18)),
            directory=tenant.directory,
            user=user.id,
            epoch=user.epoch,
            identity=identity,
            created_at=old.created_at if old is not None and same else now,
            expires_at=now + tenant.rules.lifetimes.session,
            authenticated_at=identity.at,
            factors=transaction.factors,
            agent=visitor.how.agent,
            clients=clients,
        )
        return session, self.means.sessions.secret_for(session.id, self.means.entropy.token(32))

    def start_session(self, tenant: Tenant, user: User, identity: Identity, visitor: Visitor) -> tuple[Session, str]:
        """A session without a login of an app: after a reset (`rules.reset.after`), or a changed password."""
        now = self.means.clock.now()
        session = Session(
            SessionId(self.means.entropy.token(18)), tenant.directory, user.id, user.epoch, identity, now,
            now + tenant.rules.lifetimes.session, identity.at, agent=visitor.how.agent,
        )  # fmt: skip
        secret = self.means.sessions.secret_for(session.id, self.means.entropy.token(32))
        self.means.sessions.open(session, secret)
        if visitor.session is not None:
            self.means.sessions.close(visitor.session.id)
        return session, secret

    def _grant(self, tenant: Tenant, transaction: Transaction, user: User, client: Client, session: Session) -> Grant:
        request, now, identity = transaction.request, self.means.clock.now(), session.identity
        return Grant(
            id=GrantId(transaction.id),  # a transaction yields one grant: what is stored of both has one home
            tenant=tenant.id,
            directory=tenant.directory,
            client=client.client_id,
            user=user.id,
            epoch=user.epoch,
            scope=" ".join(transaction.scopes if transaction.consented is None else transaction.consented),
            issued_at=now,
            expires_at=now + _lifetime(tenant, client),
            authenticated_at=session.authenticated_at,
            redirect_uri=request.get("redirect_uri", ""),
            nonce=request.get("nonce"),
            code_challenge=request.get("code_challenge"),
            code_challenge_method=request.get("code_challenge_method"),
            methods=identity.methods,
            acr=identity.acr,
            session=session.id,
            claims_request=_claims(request.get("claims")),
            connection=identity.connection,
        )

    def session_of(self, tenant: Tenant, secret: str | None) -> tuple[Session, User] | None:
        """Who is signed in on this browser, checked against the user as they are now (SECURITY 3)."""
        session = self.means.sessions.get(secret) if secret else None
        if session is None or session.directory != tenant.directory:
            return None
        with self.means.database.asking() as work:
            user = work.users.get(UserId(session.user))
        if user is None or user.blocked or user.epoch != session.epoch:
            return None
        return (session, user) if tenant.connection(session.identity.connection) else None

    def consent(self, tenant: Tenant, transaction: Transaction, user: User) -> Next:
        """The person allowed it: remembered for the next time."""
        scopes = transaction.scopes
        with self.means.database.writing() as work:
            now = self.means.clock.now()
            work.consents.grant(user.id, transaction.client, frozenset(scopes), now)
            work.audit.write(Event(now, tenant.directory, Actor.user(user.id), Action.CONSENT_GIVEN, user.id,
                                   {"client": transaction.client, "scope": " ".join(scopes)}))  # fmt: skip
        return self.ask(tenant, transaction.consent(scopes))


class ArrivalFailed(BrokerError):
    """A provider's answer did not sign anybody in. The login waits, and its page says so."""

    code, status = "connection.failed", 502

    def __init__(self, transaction: Transaction, failure: ConnectionFailed) -> None:
        super().__init__(failure.detail, code=failure.code)
        self.transaction = transaction


def _claims(text: str | None) -> Mapping[str, Any]:
    """The `claims` parameter; it was validated when the request came."""
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}


def _lifetime(tenant: Tenant, client: Client) -> timedelta:
    """How long anything may come of a grant: without refresh tokens the last access token is the end of it."""
    rules = tenant.rules.lifetimes
    return rules.refresh_token if "refresh_token" in client.grant_types else rules.code + rules.access_token
