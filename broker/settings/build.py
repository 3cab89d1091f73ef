"""From validated models to the frozen types of the core."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from broker.core.tenant import (
    AdminEntry,
    Branding,
    Client,
    ConnectionEntry,
    Egress,
    GuardRules,
    Lifetimes,
    MailRules,
    PasswordRules,
    ResetRules,
    Rules,
    Tenant,
)
from broker.core.values import ClientId, ConnectionId, DirectoryId, TenantId
from broker.settings.addresses import transport_under
from broker.settings.client import ClientSettings
from broker.settings.connection import ConnectionSettings
from broker.settings.model import (
    BrokerFile,
    EgressSettings,
    Mail,
    RulesSettings,
    TenantFile,
    TenantMail,
)

LIVE = "live"


def tenant_id(name: str, environment: str) -> TenantId:
    """`acme` for live; every other environment is a tenant of its own, `test-acme`."""
    return TenantId(name if environment == LIVE else f"{environment}-{name}")


def tenant(
    file: TenantFile, connections: Iterable[ConnectionSettings], environment: str, broker: BrokerFile, root: Path
) -> Tenant:
    id = tenant_id(file.tenant, environment)
    return Tenant(
        id=id,
        name=file.name or file.tenant,
        issuer=file.issuer or f"{broker.base_url}/t/{id}",
        directory=DirectoryId(f"{file.tenant}/{environment}"),
        environment=environment,
        mail=_mail(broker.mail, file.mail, root),
        connections=tuple(_connection(settings) for settings in connections),
        clients={ClientId(settings.client_id): _client(settings) for settings in file.clients},
        rules=_rules(file.rules),
        branding=Branding(**file.branding.model_dump()),
        languages=file.languages,
        admins=tuple(AdminEntry(ConnectionId(admin.connection), admin.identifier, admin.role) for admin in file.admins),
    )


def _mail(broker: Mail, own: TenantMail, root: Path) -> MailRules:
    return MailRules(
        sender=own.sender or broker.sender,
        transport=transport_under(root, own.transport or broker.transport),
        only_to=broker.only_to if own.only_to is None else own.only_to,
    )


def _connection(settings: ConnectionSettings) -> ConnectionEntry:
    return ConnectionEntry(
        id=ConnectionId(settings.id),
        type=settings.type,
        title=settings.title or settings.id,
        domains=settings.domains,
        settings=settings,
    )


def _client(settings: ClientSettings) -> Client:
    values = settings.model_dump(
        exclude={"client_id", "client_name", "client_secret", "token_endpoint_auth_method", "connections"}
    )
    method = settings.token_endpoint_auth_method or ("client_secret" if settings.client_secret else "none")
    return Client(
        client_id=ClientId(settings.client_id),
        client_name=settings.client_name or settings.client_id,
        secret_digests=tuple(hashlib.sha256(secret.reveal().encode()).hexdigest() for secret in settings.client_secret),
        token_endpoint_auth_method=method,
        connections=None if settings.connections is None else tuple(map(ConnectionId, settings.connections)),
        **values,
    )


def _rules(settings: RulesSettings) -> Rules:
    lifetimes = settings.lifetimes.model_dump(exclude={"transaction"})
    return Rules(
        password=PasswordRules(**settings.password.model_dump()),
        reset=ResetRules(**settings.reset.model_dump()),
        second_factor=settings.second_factor,
        lifetimes=Lifetimes(**lifetimes, transaction=settings.transaction_lifetime()),
        guard=GuardRules(**settings.guard.model_dump()),
    )


def egress(settings: EgressSettings, root: Path) -> Egress:
    return Egress(settings.allow, str(root / settings.ca_bundle) if settings.ca_bundle else None)
