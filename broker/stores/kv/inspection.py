"""What kind of store somebody gave us, and what of it would hurt later."""

from __future__ import annotations

from broker.core.errors import Unavailable
from broker.stores.kv.redis import RedisKeyValue


def inspect(kv: RedisKeyValue) -> tuple[list[str], list[str]]:
    """What it is, a line for each server that owns keys; and what should be otherwise. Raises `Unavailable`."""
    found, warnings = [], []
    for name, told in kv.everywhere("INFO").items():
        facts = _facts(bytes(told).decode("utf-8", "replace"))
        policy = facts.get("maxmemory_policy", "unknown")
        replicas = int(facts.get("connected_slaves", "0"))
        keeps = facts.get("aof_enabled") == "1"
        found.append(
            f"{name}: {_product(facts)}, {facts.get('redis_mode', 'standalone')}, "
            f"{'appends every write to a file' if keeps else 'no append-only file'}, maxmemory-policy {policy}, "
            f"{replicas} {'replica' if replicas == 1 else 'replicas'}"
        )
        if policy != "noeviction":
            warnings.append(
                f"{name}: maxmemory-policy {policy} throws counts of attempts and marks of what was used away when "
                "memory runs out; maxmemory-policy noeviction would be right"
            )
        if not keeps and not replicas:
            warnings.append(f"{name}: a restart signs everybody out; appendonly yes would be right")
        if replicas and kv.replicas == 0:
            warnings.append(
                f"{name}: what was used shortly before a failover can be used again; ?replicas=1 would be right"
            )
        if replicas or kv.replicas is None:
            warnings += _may_wait(kv, name)
    return found, warnings


def _may_wait(kv: RedisKeyValue, name: str) -> list[str]:
    try:
        kv.everywhere("ROLE")
    except Unavailable as error:
        return [f"{name}: ROLE and WAIT have to be allowed, since replicas are waited for: {error.detail}"]
    return []


def _product(facts: dict[str, str]) -> str:
    if "valkey_version" in facts:
        return f"Valkey {facts['valkey_version']}"
    return f"Redis {facts.get('redis_version', 'of an unknown version')}"


def _facts(text: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))
