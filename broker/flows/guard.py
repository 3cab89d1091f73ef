"""Attempts are counted before they are evaluated (SECURITY 13; docs/decisions/counting-attempts.md).

By account under all of its names, by where an attempt comes from, and all failures of a tenant together. Waits grow
and end: nobody is locked out, and a device that signed in before has a lane of its own. Counting fails closed: when
the store does not answer, `Unavailable` is raised and nothing is evaluated.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

from broker.core.attempts import Delay, Demand, Limit, Verdict, Watch
from broker.core.errors import ChallengeNeeded, InvalidIdentifier, Throttled
from broker.core.identifiers import parse_identifier
from broker.core.ports import Clock, Rider, Throttle, Vault
from broker.core.tenant import ChallengeRule, Tenant
from broker.core.values import TenantId, User
from broker.flows.known_device import KnownDevices

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Growing:
    """After `free` attempts: one second, two, four ... five minutes. The 20th guess comes after a quarter of an hour,
    and there are fewer than 300 a day. Forgetting gives no more guesses than patience: 5 an hour against 12."""

    free: int = 5
    first: timedelta = SECOND
    longest: timedelta = 5 * MINUTE
    forgotten: timedelta = HOUR

    def of(self, key: str) -> Delay:
        return Delay(key, self.free, self.first, self.longest, self.forgotten)


@dataclass(frozen=True, slots=True)
class Steady:
    """`burst` at once, then one every `period`."""

    burst: int
    period: timedelta

    def of(self, key: str) -> Limit:
        return Limit(key, self.burst, self.period)


# Who is counted, and how much they may. A new kind of secret (a second factor) is a line here and a method below.
ACCOUNT = Growing()
"""Guesses at one account's password, from devices that never signed in to it, under whatever name."""
DEVICE = Growing()
"""From one device that did: an attacker elsewhere cannot use these up."""
CONFIRM = Growing()
"""Somebody signed in proves it with their password again: to change it, or as an administrator."""
PASSWORD_FROM = (Steady(100, timedelta(milliseconds=200)), Steady(500, timedelta(milliseconds=40)))
"""By address (wide: an office of a thousand people has one), and by the /48 that an IPv6 customer commonly has whole
(RFC 6177): its 65,536 networks would be as many attackers. IPv4 has no such line: neighbours there are strangers."""
MAIL_FROM = (Steady(30, 10 * SECOND), Steady(150, 2 * SECOND))
"""Requests that may send a mail. How many one account gets is the worker's rule (`rules.reset.max_mails_per_hour`):
a limit at the door would let anybody close somebody's way back in."""
LINK_FROM = (Steady(60, 2 * SECOND), Steady(300, timedelta(milliseconds=400)))
"""Tries at mailed links, whose secrets have 256 bits."""
PATIENCE_FROM = (Steady(2, 30 * SECOND), Steady(4, 15 * SECOND))
"""ChallengeRule that were waited out instead of solved."""

ATTACK_LASTS = 5 * MINUTE
"""After the failures fell below half of what began it."""
SOLUTION_KEPT = 15 * MINUTE
"""Longer than a challenge is valid."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whose attempt it is. `user` is None for a name that nobody has, or that only a directory elsewhere knows."""

    typed: str
    user: User | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an attempt comes from, and what it brings along."""

    address: str
    device: str = ""
    """The cookie of known devices (flows/known_device)."""
    solved: str | None = None
    """The identity of a solved challenge."""
    patient: bool = False
    """It was waited out, without a script that could have solved it."""


@dataclass(frozen=True, slots=True)
class Counted:
    """An attempt that may be made."""

    receipt: tuple[str, ...]
    known: bool
    """From a device that signed in to this account before."""
    asker: str
    """Whose share of the hashing queue it takes; empty: nobody's in particular."""


@dataclass(frozen=True)
class Guard:
    throttle: Throttle
    vault: Vault
    clock: Clock
    devices: KnownDevices
    strained: Callable[[], bool] = lambda: False
    """Whether the queue of password hashing is long."""
    _attacked: dict[TenantId, datetime] = field(default_factory=dict, compare=False)
    """What the store last said, so that a page knows without asking."""

    def password(self, tenant: Tenant, account: Account, origin: Origin) -> Counted:
        """One guess at an account. Known and unknown names take the same steps.

        Raises `Throttled`, `ChallengeNeeded`.
        """
        subject, bound = self._subject(tenant, account)
        lane = self.devices.lane(origin.device, bound)
        if lane is None:
            first = ACCOUNT.of(self._key("account", tenant, subject))
        else:
            first = DEVICE.of(self._key("device", tenant, subject, lane))
        verdict = self._charge(tenant, origin, first, *self._from("password", tenant, origin.address, PASSWORD_FROM),
                               known=lane is not None)  # fmt: skip
        return Counted(verdict.receipt, lane is not None, asker(origin.address))

    def password_was_right(self, counted: Counted) -> Rider:
        """Give the account its attempts back: along with the next step of the login."""
        return self.throttle.forgiving(counted.receipt)

    def confirmed(self, counted: Counted) -> None:
        """The same, where no step follows."""
        self.throttle.forgive(counted.receipt)

    def known_device(self, tenant: Tenant, account: Account, cookie: str) -> str:
        """The cookie of a device that has just signed in to this account."""
        return self.devices.remember(cookie, self._subject(tenant, account)[1])

    def confirmation(self, tenant: Tenant, user: User, address: str) -> Counted:
        """Somebody who is signed in proves it with their password again. Raises `Throttled`."""
        limits = self._from("password", tenant, address, PASSWORD_FROM)
        verdict = self._judge(self.throttle.charge(CONFIRM.of(self._key("confirm", tenant, user.id)), *limits))
        return Counted(verdict.receipt, True, asker(address))

    def mail(self, tenant: Tenant, origin: Origin) -> None:
        """A request that may send a mail, by where it comes from. Raises `Throttled`, `ChallengeNeeded`."""
        self._charge(tenant, origin, *self._from("mail", tenant, origin.address, MAIL_FROM))

    def link(self, tenant: Tenant, address: str) -> None:
        """A try at a mailed link. Raises `Throttled`."""
        self._judge(self.throttle.charge(*self._from("link", tenant, address, LINK_FROM)))

    def demands(self, tenant: Tenant) -> bool:
        """Whether a form had better come with a challenge. What this process knows: nothing is asked for it."""
        rule = tenant.rules.guard.challenge
        if rule is ChallengeRule.UNDER_ATTACK:
            until = self._attacked.get(tenant.id)
            return until is not None and self.clock.now() < until
        return rule is ChallengeRule.ALWAYS

    def _subject(self, tenant: Tenant, account: Account) -> tuple[str, str]:
        """What an account is counted as, and what a device is known to (which ends with the password).

        Both ways are gone for everybody: a name costs the same whether it is known or not.
        """
        typed = canonical(account.typed)
        user = account.user
        counted, epoch = (f"user {user.id}", user.epoch) if user is not None else (f"name {typed}", 0)
        return counted, f"{tenant.directory} {epoch} {counted}"

    def _charge(self, tenant: Tenant, origin: Origin, *limits: Limit | Delay, known: bool = False) -> Verdict:
        rules = tenant.rules.guard
        if rules.challenge is ChallengeRule.OFF or not (limits or self.demands(tenant)):
            return self._judge(self.throttle.charge(*limits))
        always = rules.challenge is ChallengeRule.ALWAYS
        demand = None if known and not always else Demand(always, origin.solved, SOLUTION_KEPT)
        if origin.patient:
            limits = (*limits, *self._from("patience", tenant, origin.address, PATIENCE_FROM))
        watch = Watch(f"watch:{tenant.id}", rules.attack_failures, ATTACK_LASTS, alarm=self.strained())
        verdict = self.throttle.charge(*limits, watch=watch, demand=demand)
        if verdict.attacked:
            self._attacked[tenant.id] = self.clock.now() + MINUTE
        return self._judge(verdict)

    def _judge(self, verdict: Verdict) -> Verdict:
        if verdict.wait > timedelta():
            raise Throttled(max(1, math.ceil(verdict.wait.total_seconds())))
        if verdict.demanded:
            raise ChallengeNeeded
        return verdict

    def _key(self, kind: str, tenant: Tenant, *parts: str) -> str:
        """A digest, since keys are not encrypted."""
        return f"{kind}:{self.vault.mac('throttle', kind, tenant.id, *parts)[:22]}"

    def _from(self, kind: str, tenant: Tenant, address: str, limits: tuple[Steady, Steady]) -> list[Limit]:
        networks = neighbourhood(address)
        return [limit.of(self._key(f"from-{kind}", tenant, one)) for one, limit in zip(networks, limits, strict=False)]


@lru_cache(maxsize=4096)
def canonical(typed: str) -> str:
    """One text for every way to write an identifier."""
    try:
        return parse_identifier(typed).key
    except InvalidIdentifier:
        return typed[:256]


def asker(address: str) -> str:
    return next(iter(neighbourhood(address)), "")


@lru_cache(maxsize=4096)
def neighbourhood(address: str) -> tuple[str, ...]:
    """The networks that an attempt comes from: the address itself, or the /64 and the /48 around it.

    None for a loopback address: that is a proxy in front of us that is not among `trusted_proxies`, so everybody
    has it, and one attacker would lock everybody out.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ("unknown",)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    if parsed.is_loopback:
        return ()
    if isinstance(parsed, ipaddress.IPv6Address):
        return tuple(str(ipaddress.ip_network((parsed, size), strict=False)) for size in (64, 48))
    return (str(parsed),)
