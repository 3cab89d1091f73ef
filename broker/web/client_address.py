"""Where a request comes from. Forwarding headers count only from proxies that the configuration names."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from flask import Request


def client_address(request: Request, trusted: Sequence[str]) -> str:
    """The address of the first hop that is not a trusted proxy, read from the right of `X-Forwarded-For`."""
    address = request.remote_addr or "unknown"
    if not trusted or not _is_in(address, trusted):
        return address
    hops = [hop.strip() for hop in ",".join(request.headers.getlist("X-Forwarded-For")).split(",") if hop.strip()]
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
    return any(parsed in ipaddress.ip_network(network, strict=False) for network in networks)
