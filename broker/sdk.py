"""All that a connection may import: a window onto the core, and the settings that every connection has.

A connection is a class that inherits `Connection` and its capabilities, with a settings class. It gets a `Toolbox`
and nothing else: no web framework, no other tenant, no way out but the Fetcher. docs/guides/connection-authors.md
shows one from the first line to its tests.
"""

from __future__ import annotations

from broker.core.claims import STANDARD as STANDARD_CLAIMS
from broker.core.claims import from_upstream
from broker.core.connection import (
    Arrival,
    Connection,
    Departure,
    Hint,
    LocalPasswords,
    LocalReset,
    PasswordSignIn,
    PostForm,
    Redirect,
    RedirectSignIn,
    Refresh,
    ResetHow,
    ResetPage,
    UpstreamReset,
    UpstreamSignOut,
)
from broker.core.errors import Busy, ConnectionFailed, InvalidIdentifier, Unavailable
from broker.core.identifiers import Email, Username, email_domain, parse_email, parse_identifier, parse_username
from broker.core.passwords import normalise
from broker.core.ports import (
    Clock,
    Credentials,
    Database,
    Entropy,
    Fetcher,
    Hasher,
    Response,
    TokenVerifier,
    Toolbox,
    UpstreamClients,
)
from broker.core.redirects import extend
from broker.core.tenant import Tenant
from broker.core.values import ConnectionId, DirectoryId, Identity, Secret, TenantId, User, UserId
from broker.settings.connection import (
    ConnectionSettings,
    Domain,
    Duration,
    EmailAddress,
    ResetSettings,
    SecretText,
    ServiceAddress,
    SettingsModel,
    WebAddress,
    wrong,
)

__all__ = [
    "STANDARD_CLAIMS",
    "Arrival",
    "Busy",
    "Clock",
    "Connection",
    "ConnectionFailed",
    "ConnectionId",
    "ConnectionSettings",
    "Credentials",
    "Database",
    "Departure",
    "DirectoryId",
    "Domain",
    "Duration",
    "Email",
    "EmailAddress",
    "Entropy",
    "Fetcher",
    "Hasher",
    "Hint",
    "Identity",
    "InvalidIdentifier",
    "LocalPasswords",
    "LocalReset",
    "PasswordSignIn",
    "PostForm",
    "Redirect",
    "RedirectSignIn",
    "Refresh",
    "ResetHow",
    "ResetPage",
    "ResetSettings",
    "Response",
    "Secret",
    "SecretText",
    "ServiceAddress",
    "SettingsModel",
    "Tenant",
    "TenantId",
    "TokenVerifier",
    "Toolbox",
    "Unavailable",
    "UpstreamClients",
    "UpstreamReset",
    "UpstreamSignOut",
    "User",
    "UserId",
    "Username",
    "WebAddress",
    "email_domain",
    "extend",
    "from_upstream",
    "normalise",
    "parse_email",
    "parse_identifier",
    "parse_username",
    "wrong",
]
