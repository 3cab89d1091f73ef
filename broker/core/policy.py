"""The one place that decides what a login needs next.

An ordered table of checks; the first unmet one names the step, and the OIDC error that `prompt=none` answers with
(OIDC Core 3.1.2.6). To add a step to the login: a line here, a page in broker/web that answers it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from broker.core.tenant import Client
from broker.core.transaction import Transaction
from broker.core.values import User

MAIL_ONLY = ("email",)
"""`amr` of somebody who came by a mailed link: it proves the mailbox, and never counts as re-authentication."""


class Step(StrEnum):
    CHOOSE_CONNECTION = "choose_connection"
    SIGN_IN = "sign_in"
    SELECT_ACCOUNT = "select_account"
    REAUTHENTICATE = "reauthenticate"
    BLOCKED = "blocked"
    SECOND_FACTOR = "second_factor"
    CHANGE_PASSWORD = "change_password"
    CONSENT = "consent"
    ISSUE = "issue"


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that the policy may look at."""

    transaction: Transaction
    client: Client
    now: datetime
    user: User | None = None
    """The record behind the transaction's user, read now: its status and epoch count, not those of a minute ago."""
    granted: frozenset[str] = frozenset()
    """Scopes that the person allowed this client before."""
    factors_required: bool = False


class Check(NamedTuple):
    name: str
    step: Step
    error: str
    unmet: Callable[[Situation], bool]


def _stale(s: Situation) -> bool:
    """Signed out everywhere, password changed, or deleted since this identity was established (SECURITY 3)."""
    return s.transaction.identity is not None and (s.user is None or s.user.epoch != s.transaction.epoch)


def _too_old(s: Situation) -> bool:
    """`max_age`, in the request or registered for the client (OIDC Core 3.1.2.1)."""
    limit = s.transaction.max_age if s.transaction.max_age is not None else s.client.default_max_age
    if limit is None or s.transaction.identity is None or s.transaction.interactive:
        return False
    if s.transaction.identity.methods == MAIL_ONLY:
        return True
    return s.now - s.transaction.identity.at > timedelta(seconds=limit)


def _login_demanded(s: Situation) -> bool:
    return "login" in s.transaction.prompts and not s.transaction.interactive and s.transaction.identity is not None


def _account_not_chosen(s: Situation) -> bool:
    return (
        "select_account" in s.transaction.prompts and s.transaction.identity is not None and not s.transaction.selected
    )


def _wrong_account(s: Situation) -> bool:
    """The app named a person by `id_token_hint`, and somebody else is signed in (OIDC Core 3.1.2.1)."""
    wanted = s.transaction.request.get("hinted_subject")
    return wanted is not None and s.transaction.user is not None and s.transaction.user != wanted


def _consent_needed(s: Situation) -> bool:
    if s.transaction.consented is not None:
        return False
    if "consent" in s.transaction.prompts:
        return True
    if s.client.first_party:
        return False
    return not set(s.transaction.scopes) <= s.granted


POLICY: tuple[Check, ...] = (
    Check(
        "connection",
        Step.CHOOSE_CONNECTION,
        "login_required",
        lambda s: s.transaction.identity is None and s.transaction.connection is None,
    ),
    Check("identity", Step.SIGN_IN, "login_required", lambda s: s.transaction.identity is None),
    Check("epoch", Step.REAUTHENTICATE, "login_required", _stale),
    Check("blocked", Step.BLOCKED, "login_required", lambda s: s.user is not None and s.user.blocked),
    Check("subject", Step.REAUTHENTICATE, "login_required", _wrong_account),
    Check("prompt_login", Step.REAUTHENTICATE, "login_required", _login_demanded),
    Check("max_age", Step.REAUTHENTICATE, "login_required", _too_old),
    Check("account", Step.SELECT_ACCOUNT, "account_selection_required", _account_not_chosen),
    Check(
        "factor", Step.SECOND_FACTOR, "interaction_required", lambda s: s.factors_required and not s.transaction.factors
    ),
    Check(
        "password_expired",
        Step.CHANGE_PASSWORD,
        "interaction_required",
        lambda s: (
            s.user is not None
            and s.user.must_change_password
            and s.transaction.identity is not None
            and s.transaction.identity.connection == s.user.connection
        ),
    ),
    Check("consent", Step.CONSENT, "consent_required", _consent_needed),
)


def next_step(situation: Situation, policy: Sequence[Check] = POLICY) -> tuple[Step, Check | None]:
    """The step that a login needs next, and the check that asks for it (None when a code can be issued)."""
    for check in policy:
        if check.unmet(situation):
            return check.step, check
    return Step.ISSUE, None


def explain(situation: Situation, policy: Sequence[Check] = POLICY) -> list[tuple[str, bool]]:
    """Every check by name, and whether it is met: for tests, and for the state chart in the docs."""
    return [(check.name, not check.unmet(situation)) for check in policy]


def errors_by_step(policy: Sequence[Check] = POLICY) -> Mapping[Step, str]:
    """What `prompt=none` answers for each step."""
    return {check.step: check.error for check in policy}
