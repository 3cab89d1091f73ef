"""Attempts are counted before they are evaluated (SECURITY 13).

Growing delay, no hard lock-out: a limit gives back one attempt each period, whoever used the others up. Counting
fails closed: when the store does not answer, `Unavailable` is raised and nothing is evaluated.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from datetime import timedelta

from broker.core.errors import InvalidIdentifier, Throttled
from broker.core.identifiers import parse_identifier
from broker.core.ports import Limit, Rider, Throttle, Vault
from broker.core.tenant import Tenant

PASSWORD_BY_ACCOUNT = (10, timedelta(seconds=30))
PASSWORD_BY_ADDRESS = (100, timedelta(milliseconds=200))
"""Wide: an office of a thousand people has one address."""
MAIL_BY_ADDRESS = (30, timedelta(seconds=10))
LINK_BY_ADDRESS = (60, timedelta(seconds=2))
CONFIRM_BY_ACCOUNT = (5, timedelta(seconds=60))


@dataclass(frozen=True)
class Guard:
    throttle: Throttle
    vault: Vault

    def password(self, tenant: Tenant, identifier: str, address: str) -> None:
        """One guess at an account. Raises `Throttled`."""
        self._charge(
            Limit(self.account_key(tenant, identifier), *PASSWORD_BY_ACCOUNT),
            *self._by_address("password", tenant, address, PASSWORD_BY_ADDRESS),
        )

    def password_was_right(self, tenant: Tenant, identifier: str) -> Rider:
        """Give the account its attempts back: along with the next step of the login."""
        return self.throttle.clearing(self.account_key(tenant, identifier))

    def confirmation(self, tenant: Tenant, user: str, address: str) -> None:
        """Somebody who is signed in proves it with their password again. Raises `Throttled`."""
        self._charge(
            Limit(self._key("confirm", tenant, user), *CONFIRM_BY_ACCOUNT),
            *self._by_address("password", tenant, address, PASSWORD_BY_ADDRESS),
        )

    def mail(self, tenant: Tenant, address: str) -> None:
        """A request that may send a mail, by where it comes from. By whom it is for, the worker decides."""
        self._charge(*self._by_address("mail", tenant, address, MAIL_BY_ADDRESS))

    def link(self, tenant: Tenant, address: str) -> None:
        """A try at a mailed link."""
        self._charge(*self._by_address("link", tenant, address, LINK_BY_ADDRESS))

    def account_key(self, tenant: Tenant, identifier: str) -> str:
        """One key for every way to write an identifier; a digest, since keys are not encrypted."""
        try:
            canonical = parse_identifier(identifier).key
        except InvalidIdentifier:
            canonical = identifier[:256]
        return self._key("account", tenant, canonical)

    def _key(self, kind: str, tenant: Tenant, value: str) -> str:
        return f"{kind}:{self.vault.mac('throttle', kind, tenant.id, value)[:22]}"

    def _by_address(self, kind: str, tenant: Tenant, address: str, limit: tuple[int, timedelta]) -> list[Limit]:
        network = neighbourhood(address)
        return [Limit(self._key(f"from-{kind}", tenant, network), *limit)] if network else []

    def _charge(self, *limits: Limit) -> None:
        if not limits:
            return
        wait = self.throttle.charge(*limits)
        if wait > timedelta():
            raise Throttled(max(1, math.ceil(wait.total_seconds())))


def neighbourhood(address: str) -> str | None:
    """The /32 or /64 that an attempt comes from.

    None for a loopback address: that is a proxy in front of us that is not among `trusted_proxies`, so everybody
    has it, and one attacker would lock everybody out.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    if parsed.is_loopback:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
