"""What every implementation of a port or a capability has to do, as test classes to inherit from.

Those for authors of connections are here by name; those of the ports are in their modules.
"""

from broker.testing.contracts.connection import (
    Case,
    ConnectionContract,
    LocalResetContract,
    PasswordSignInContract,
    UpstreamResetContract,
)
from broker.testing.contracts.openid import OpenIdCase, OpenIdContract
from broker.testing.contracts.redirect_sign_in import RedirectCase, RedirectSignInContract, UpstreamSignOutContract

__all__ = [
    "Case",
    "ConnectionContract",
    "LocalResetContract",
    "OpenIdCase",
    "OpenIdContract",
    "PasswordSignInContract",
    "RedirectCase",
    "RedirectSignInContract",
    "UpstreamResetContract",
    "UpstreamSignOutContract",
]
