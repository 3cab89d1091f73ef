"""The one writer of passwords, and the three ways to earn a proof (SECURITY 1).

Nothing else in the product calls `Users.write_hash`. A flow flag, a session, a hidden field never suffice: Keycloak
CVE-2026-18963 was exactly that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from broker.core.errors import BrokerError, Denied
from broker.core.events import Action, Event
from broker.core.mail import Job, JobKind, MailKind
from broker.core.passwords import Refusal, Weakness, normalise, refusals
from broker.core.ports import UnitOfWork
from broker.core.tenant import Tenant
from broker.core.ticket import AdminConfirmed, CurrentPassword, Proof, Purpose, RedeemedTicket
from broker.core.values import Actor, ActorKind, User
from broker.flows.guard import Guard
from broker.flows.means import Means

CONFIRMATION_LASTS = timedelta(minutes=5)
WRITES_A_PASSWORD = frozenset(
    {Purpose.RESET, Purpose.INVITE, Purpose.VERIFY_EMAIL, Purpose.SIGN_IN_ONCE, Purpose.OPERATE}
)


class PasswordRefused(BrokerError):
    """The new password breaks the rules. Nothing was consumed and nothing changed."""

    code, status = "password.refused", 422

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__(code=f"password.{refusals[0].weakness}")
        self.refusals = tuple(refusals)


class WrongPassword(BrokerError):
    """The current password that was given is not the current one."""

    code, status = "password.wrong", 422


@dataclass(frozen=True)
class Circumstances:
    """What a notice mail and the audit log say about a change. Nothing here decides anything."""

    agent: str = ""
    """Browser and system in words."""
    reference: str = ""
    language: str = "en"
    address: str = ""
    """Where the request came from, for throttling."""


@dataclass(frozen=True)
class Passwords:
    means: Means
    guard: Guard

    def check_rules(self, tenant: Tenant, user: User, password: str) -> None:
        """Raises `PasswordRefused`."""
        personal = [tenant.name, user.username or "", user.email or "", str(user.profile.get("name") or "")]
        found = refusals(
            password,
            tenant.rules.password,
            personal=[word for word in personal if word],
            is_common=self.means.blocklist,
        )
        if found:
            raise PasswordRefused(found)

    def prepare(self, tenant: Tenant, user: User, password: str, current_hash: str | None) -> str:
        """The hash of an acceptable new password; made outside any transaction, since it takes its time.

        Raises `PasswordRefused`, `Busy`.
        """
        password = normalise(password)
        self.check_rules(tenant, user, password)
        if current_hash is not None and self.means.hasher.verify(password, current_hash):
            raise PasswordRefused([Refusal(Weakness.UNCHANGED)])
        return self.means.hasher.hash(password)

    def write(
        self,
        work: UnitOfWork,
        tenant: Tenant,
        user: User,
        hash: str,
        proof: Proof,
        by: Actor,
        *,
        how: Circumstances,
        must_change: bool = False,
    ) -> User:
        """Write a password hash, kill everything older, say so in the audit log and by mail, in `work`'s transaction.

        Returns the user as they are now. Raises `Denied` when the proof does not hold.
        """
        now = self.means.clock.now()
        if not self._holds(work, user, proof):
            raise Denied(code="proof.invalid")
        work.users.write_hash(user.id, hash, must_change=must_change, at=now)
        work.users.move_epoch(user.id)
        work.tickets.void(user.id, now)
        written = work.users.get(user.id)
        if written is None:
            raise Denied(code="proof.invalid")
        work.audit.write(
            Event(now, tenant.directory, by, _ACTIONS.get(by.kind, Action.PASSWORD_CHANGED), user.id,
                  {"proof": type(proof).__name__, "agent": how.agent}, how.reference)
        )  # fmt: skip
        if user.has_password or by.kind is not ActorKind.USER:
            self._notify(work, tenant, written, by, how)
        return written

    def current(self, tenant: Tenant, user: User, password: str, address: str) -> CurrentPassword:
        """Prove the current password. Raises `WrongPassword`, `Throttled`, `Busy`."""
        counted = self.guard.confirmation(tenant, user, address)
        with self.means.database.asking() as work:
            stored = work.users.hash_of(user.id)
        with self.means.hasher.asked_by(counted.asker, first=True):
            right = self.means.hasher.verify(password, stored)
        if not right or stored is None:
            raise WrongPassword
        self.guard.confirmed(counted)
        return CurrentPassword(user.id, stored)

    def change(self, tenant: Tenant, user: User, current: str, new: str, how: Circumstances) -> User:
        """Somebody changes their own password. Raises `WrongPassword`, `PasswordRefused`, `Throttled`, `Busy`."""
        self.check_rules(tenant, user, new)
        proof = self.current(tenant, user, current, how.address)
        hash = self.prepare(tenant, user, new, proof.verified_hash)
        with self.means.database.writing() as work:
            return self.write(work, tenant, user, hash, proof, Actor.user(user.id), how=how)

    def _holds(self, work: UnitOfWork, user: User, proof: Proof) -> bool:
        now = self.means.clock.now()
        match proof:
            case RedeemedTicket(ticket):
                return ticket.user == user.id and ticket.purpose in WRITES_A_PASSWORD
            case CurrentPassword(owner, verified):
                return owner == user.id and work.users.hash_of(user.id) == verified
            case AdminConfirmed(admin, epoch, target, at):
                actor = work.users.get(admin)
                fresh = timedelta() <= now - at <= CONFIRMATION_LASTS
                return (
                    fresh and target == user.id and actor is not None and not actor.blocked and actor.epoch == epoch
                    and actor.directory == user.directory and user.has_password
                )  # fmt: skip

    def _notify(self, work: UnitOfWork, tenant: Tenant, user: User, by: Actor, how: Circumstances) -> None:
        """Tell the owner. Without a verified address there is nobody to tell."""
        if not user.email or not user.email_verified:
            return
        kind = MailKind.PASSWORD_CHANGED if by.kind is ActorKind.USER else MailKind.PASSWORD_SET_BY_ADMIN
        facts = {"forgot_url": f"{tenant.issuer}/forgot"}
        work.outbox.put(mail_job(self.means, tenant, kind, user.email, user.label, how, facts))


_ACTIONS = {
    ActorKind.ADMIN: Action.PASSWORD_SET_BY_ADMIN,
    ActorKind.COMMAND_LINE: Action.PASSWORD_SET_BY_OPERATOR,
}


def mail_job(
    means: Means, tenant: Tenant, kind: MailKind, to: str, name: str, how: Circumstances, facts: dict[str, str]
) -> Job:
    """A mail for the outbox. `to` is a stored address, byte for byte (SECURITY 4)."""
    now = means.clock.now()
    payload = {
        "kind": kind.value,
        "to": to,
        "language": how.language,
        "name": name,
        "agent": how.agent,
        "reference": how.reference,
        "at": now.isoformat(),
        **facts,
    }
    return Job(means.entropy.token(16), tenant.id, JobKind.MAIL, payload, now, now)
