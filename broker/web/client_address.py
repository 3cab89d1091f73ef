"""Where a request comes from. Forwarding headers count only from proxies that the configuration names."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any


def client_address(environ: Mapping[str, Any], trusted: Sequence[str]) -> str:
    """The address of the first hop that is not a trusted proxy, read from the right of `X-Forwarded-For`."""
    address = str(environ.get("REMOTE_ADDR") or "unknown")
    if not trusted or not _is_in(address, trusted):
        return address
    hops = [hop.strip() for hop in str(environ.get("HTTP_X_FORWARDED_FOR", "")).split(",") if hop.strip()]
    for hop in reversed(hops):
        try:
            ipaddress.ip_address(hop)
        except ValueError:
            return address
        address = hop
        if not _is_in(hop, trusted):
            return hop
    return address


def _is_in(address: str, networks: Sequence[str]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in _parsed(tuple(networks)))


@lru_cache(maxsize=16)
def _parsed(networks: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(network, strict=False) for network in networks)
