"""Devices that signed in before: their attempts are counted apart (SECURITY 13).

Somebody who hammers an account from elsewhere uses up the attempts of strangers, never those of the owner's own
browser. The cookie opens that lane and nothing else: no session, no name, no hint of which accounts it is for. It
outlives signing out, and ends with the password, since the epoch is part of what is signed.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.ports import Entropy, Vault

ACCOUNTS = 6
"""That one device is known to; the one that signed in first goes first."""
_NONCE = 22
_PURPOSE = "known-device"
_MARK = 22


@dataclass(frozen=True)
class KnownDevices:
    """The cookie is `<nonce>.<mark>.<mark>...`, a mark being a MAC of the nonce and what the device is known to."""

    vault: Vault
    entropy: Entropy

    def lane(self, cookie: str, subject: str) -> str | None:
        """The name of this device's lane; None where it never signed in to this account.

        The same comparisons for everybody: a subject that does not exist is not known either.
        """
        nonce, *marks = cookie.split(".")
        known = [self.vault.is_mac(mark, _PURPOSE, nonce, subject, length=_MARK) for mark in marks[:ACCOUNTS]]
        return nonce if any(known) else None

    def remember(self, cookie: str, subject: str) -> str:
        """The cookie, with this account as the newest. The same text when it was known already."""
        nonce, *marks = cookie.split(".")
        if len(nonce) != _NONCE:
            nonce, marks = self.entropy.token(16), []
        mark = self._mark(nonce, subject)
        if mark in marks[:ACCOUNTS]:
            return cookie
        kept = [one for one in marks if len(one) == _MARK]
        return ".".join((nonce, mark, *kept[: ACCOUNTS - 1]))

    def _mark(self, nonce: str, subject: str) -> str:
        return self.vault.mac(_PURPOSE, nonce, subject)[:_MARK]
