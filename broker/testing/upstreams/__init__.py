"""Local stand-ins of upstream providers: WSGI apps that answer in the formats that the providers document."""

from __future__ import annotations

from broker.testing.upstreams.entra import EntraStandIn
from broker.testing.upstreams.github import GitHubStandIn
from broker.testing.upstreams.google import GoogleStandIn
from broker.testing.upstreams.openid import OpenIdStandIn
from broker.testing.upstreams.provider import Person, Registration, StandIn

__all__ = [
    "EntraStandIn",
    "GitHubStandIn",
    "GoogleStandIn",
    "OpenIdStandIn",
    "Person",
    "Registration",
    "StandIn",
]
