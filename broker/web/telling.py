"""What is said of a request that went wrong: one event, and the story behind the reference that its page shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker.core.policy import Situation, next_step
from broker.core.story import UNMET, Story, checks_of, masked
from broker.web.agent import describe

if TYPE_CHECKING:
    from broker.core.transaction import Transaction
    from broker.core.values import User
    from broker.web.reply import Environ
    from broker.web.visit import Visit
    from broker.wiring import Runtime

HELD = frozenset({"attempts.throttled", "attempts.challenged", "service.busy"})
"""Nothing was evaluated, and whoever guesses has the next guess ready: our web server lets these answers wait a moment
(serving/held.py), other servers know nothing of it."""
_REFUSED = "homerealm.refused"


def tell(
    runtime: Runtime, current: Visit | None, environ: Environ, reference: str, event: str, code: str,
    status: int, *, detail: str = "", error: str = "", transaction: Transaction | None = None, user: User | None = None,
) -> None:  # fmt: skip
    """`transaction`: the login, as it stood when it was refused; else what the request has read so far."""
    if event in HELD:
        environ[_REFUSED] = True
    if current is not None and transaction is None:
        transaction = current.transaction
    facts: dict[str, Any] = {**_facts(current, transaction), "path": str(environ.get("PATH_INFO", ""))[:200]}
    runtime.log(event, reference, code=code, status=status, detail=detail, error=error, **facts)
    about = _login(runtime, current, transaction, user) if transaction is not None else {}
    agent = describe(environ.get("HTTP_USER_AGENT", ""))
    now = runtime.clock.now()
    runtime.keep(Story(reference, now, event, code, status, detail=detail[:1000], agent=agent, **facts, **about))


def refuse(
    current: Visit, event: str, code: str, status: int, *, detail: str = "", transaction: Transaction | None = None,
    user: User | None = None,
) -> None:  # fmt: skip
    """The same, of a request below a tenant."""
    tell(current.runtime, current, current.environ, current.reference, event, code, status, detail=detail,
         transaction=transaction, user=user)  # fmt: skip


def _facts(current: Visit | None, transaction: Transaction | None) -> dict[str, str]:
    if current is None:
        return {}
    client = transaction.client if transaction else current.client.client_id if current.client else ""
    connection = (transaction.connection if transaction else None) or ""
    return {"tenant": str(current.tenant.id), "client": str(client), "connection": str(connection)}


def _login(
    runtime: Runtime, current: Visit | None, transaction: Transaction, user: User | None
) -> dict[str, Any]:  # fmt: skip
    """What the login was when it happened: where the policy stood, and why."""
    found: dict[str, Any] = {
        "login": runtime.vault.mac("story", transaction.id)[:22],
        "began": transaction.started_at.isoformat(),
        "identifier": masked(transaction.identifier or ""),
        "version": transaction.config_version,
    }
    client = current.tenant.client(transaction.client) if current is not None else None
    if client is not None and not transaction.finished:
        situation = Situation(transaction, client, runtime.clock.now(), user)
        checks = checks_of(situation)
        step = next_step(situation)[0].value if checks[-1][1] == UNMET else ""
        found.update(checks=checks, step=step)
    return found
