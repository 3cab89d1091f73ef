"""Which claims an app gets (OIDC Core 5.1, 5.4, 5.5). No claim that nobody asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broker.core.values import User

SCOPES: Mapping[str, tuple[str, ...]] = {
    "profile": (
        "name",
        "family_name",
        "given_name",
        "middle_name",
        "nickname",
        "preferred_username",
        "profile",
        "picture",
        "website",
        "gender",
        "birthdate",
        "zoneinfo",
        "locale",
        "updated_at",
    ),
    "email": ("email", "email_verified"),
    "address": ("address",),
    "phone": ("phone_number", "phone_number_verified"),
}
STANDARD: frozenset[str] = frozenset(name for names in SCOPES.values() for name in names)
SUPPORTED: tuple[str, ...] = (
    "sub",
    "iss",
    "aud",
    "exp",
    "iat",
    "auth_time",
    "nonce",
    "acr",
    "amr",
    "azp",
    "sid",
    "at_hash",
    *sorted(STANDARD),
)


_OF_A_PROFILE = STANDARD - {"email", "email_verified", "updated_at"}
"""The others come from the record alone: a profile may hold what somebody only asserted."""


def of_user(user: User) -> dict[str, Any]:
    """Every standard claim that we know of somebody."""
    known = {key: value for key, value in user.profile.items() if key in _OF_A_PROFILE and value not in (None, "", {})}
    if user.username:
        known["preferred_username"] = user.username
    if user.email:
        known["email"] = user.email
        known["email_verified"] = user.email_verified
    known["updated_at"] = int(user.updated_at.timestamp())
    return known


def select(user: User, scopes: Collection[str], requested: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`sub`, the claims of these scopes, and those that the `claims` parameter names (OIDC Core 5.5)."""
    if not scopes and not requested:
        return {"sub": user.id}
    wanted = {name for scope in scopes for name in SCOPES.get(scope, ())} | set(requested or ())
    return {"sub": user.id} | {key: value for key, value in of_user(user).items() if key in wanted}


def from_upstream(raw: Mapping[str, Any], mapping: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Standard claims from what a provider said; `mapping` names the provider's field for a claim of ours.

    Values of the wrong type are dropped: an upstream is not trusted to be well-formed. `email_verified` is true only
    for the boolean true or the string "true" (Apple sends either).
    """
    found: dict[str, Any] = {}
    for name in STANDARD:
        value = raw.get((mapping or {}).get(name, name))
        if name.endswith("_verified"):
            if value is not None:
                found[name] = value is True or value == "true"
        elif name == "address":
            if isinstance(value, dict):
                found[name] = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, str)}
        elif name == "updated_at":
            continue
        elif isinstance(value, str) and 0 < len(value) <= 2048:
            found[name] = value
    return found
