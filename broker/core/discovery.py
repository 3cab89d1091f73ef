"""Which connection somebody signs in with, from public facts alone (SECURITY 7).

A chosen connection beats the e-mail domain, the domain beats the one remembered on this device, which only
suggests (CONTRACT 2). Nobody is looked up: known and unknown people take the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from broker.core.identifiers import email_domain
from broker.core.tenant import ConnectionEntry
from broker.core.values import ConnectionId


class Why(StrEnum):
    CHOSEN = "chosen"
    DOMAIN = "domain"
    REMEMBERED = "remembered"
    ONLY = "only"


@dataclass(frozen=True, slots=True)
class Discovered:
    connection: ConnectionId
    why: Why


def by_domain(connections: Sequence[ConnectionEntry], identifier: str) -> ConnectionEntry | None:
    """The connection that an address's domain belongs to; the most specific one wins (`*.acme.example`)."""
    domain = email_domain(identifier) if "@" in identifier else None
    if domain is None:
        return None
    best: tuple[int, ConnectionEntry] | None = None
    for entry in connections:
        for pattern in entry.domains:
            exact = not pattern.startswith("*.")
            hit = domain == pattern if exact else domain.endswith(pattern[1:])
            weight = len(pattern) + (1000 if exact else 0)
            if hit and (best is None or weight > best[0]):
                best = weight, entry
    return best[1] if best else None


def discover(
    connections: Sequence[ConnectionEntry],
    *,
    chosen: str | None = None,
    identifier: str | None = None,
    remembered: str | None = None,
) -> Discovered | None:
    """Where to send somebody, or None: ask them."""
    known = {entry.id for entry in connections}
    if chosen is not None and chosen in known:
        return Discovered(ConnectionId(chosen), Why.CHOSEN)
    if identifier and (entry := by_domain(connections, identifier)):
        return Discovered(entry.id, Why.DOMAIN)
    if len(connections) == 1:
        return Discovered(connections[0].id, Why.ONLY)
    if remembered is not None and remembered in known:
        return Discovered(ConnectionId(remembered), Why.REMEMBERED)
    return None
