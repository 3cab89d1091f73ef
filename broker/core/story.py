"""The story behind a reference: what an operator is told about one request that went wrong, and the login around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from broker.core.policy import POLICY, Situation

MET, UNMET, NOT_READ = "met", "unmet", "not read"


@dataclass(frozen=True, slots=True)
class Story:
    """One page, or answer, that said no. No secret, no password, no whole identifier."""

    reference: str
    at: datetime
    event: str
    code: str
    status: int
    tenant: str = ""
    client: str = ""
    connection: str = ""
    path: str = ""
    """Without its query."""
    detail: str = ""
    """For operators: it may quote a provider or a store."""
    login: str = ""
    """The login that it happened in: the same for all of its stories."""
    began: str = ""
    """When that login began (ISO 8601)."""
    identifier: str = ""
    """What was typed, masked."""
    agent: str = ""
    checks: tuple[tuple[str, str], ...] = ()
    """The checks of the policy that were asked, and how each was answered; those after the first unmet one were not."""
    step: str = ""
    """What the login needed next."""
    version: str = ""
    """Of the configuration."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "at": self.at.isoformat(), "checks": [list(one) for one in self.checks]}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Story:
        """Raises `ValueError`, `KeyError`, `TypeError`. What a newer release knows more is left out."""
        known = {one.name for one in fields(cls)}
        facts = {name: value[name] for name in value if name in known}
        checks = tuple((str(name), str(answer)) for name, answer in facts.get("checks", ()))
        return cls(**{**facts, "at": datetime.fromisoformat(facts["at"]), "checks": checks})


def checks_of(situation: Situation) -> tuple[tuple[str, str], ...]:
    """Every check up to the first unmet one. What needs the user's record says so when nobody read it."""
    blind = situation.transaction.user is not None and situation.user is None
    found = []
    for check in POLICY:
        if blind and check.name in ("epoch", "blocked", "password_expired", "consent"):
            found.append((check.name, NOT_READ))
            continue
        unmet = check.unmet(situation)
        found.append((check.name, UNMET if unmet else MET))
        if unmet:
            break
    return tuple(found)


def masked(identifier: str) -> str:
    """`a***@acme.example`, `a***`: enough to recognise one that is told on the telephone."""
    local, at, domain = identifier.partition("@")
    return f"{local[:1]}***{at}{domain[:100]}" if identifier else ""


CHECKS: Mapping[str, tuple[str, str]] = {
    "connection": ("a way to sign in was chosen", "no way to sign in was chosen yet"),
    "identity": ("somebody was signed in", "nobody was signed in yet"),
    "epoch": ("nothing was changed at the account since", "the password was changed, or everything was signed out"),
    "blocked": ("the account is not blocked", "the account is blocked"),
    "subject": ("it is the person that the app means", "the app means somebody else (id_token_hint)"),
    "prompt_login": ("no fresh sign-in was demanded, or it took place", "the app demands a new sign-in (prompt=login)"),
    "max_age": ("the sign-in is recent enough", "the sign-in is too long ago (max_age)"),
    "account": ("the account did not have to be chosen, or was", "the app wants the account to be chosen"),
    "factor": ("no second factor is missing", "a second factor is missing"),
    "password_expired": ("the password need not be changed", "the password must be changed first"),
    "consent": ("the app has the consent that it needs", "the person has not allowed the app yet"),
}  # fmt: skip
"""Each check of the policy in words: met, and unmet."""

CODES: Mapping[str, str] = {
    "password.wrong": "the password was wrong, or nobody has that name; the page says the same for both",
    "attempts.throttled": "there were too many attempts, for this account or from this address",
    "service.busy": "the queue of password hashes was full",
    "database.unavailable": "the database did not answer",
    "service.unavailable": "a store that is needed did not answer",
    "key_value.unavailable": "the key-value store did not answer",
    "connection.unavailable": "the provider, or the directory, did not answer",
    "connection.denied": "the person, or the provider, said no",
    "connection.invalid": "the provider's answer could not be trusted",
    "connection.misconfigured": "the connection is not set up as the provider wants it",
    "connection.no_email": "the provider gave no address, and the connection needs one",
    "connection.unknown_user": "the provider's user has no account here, and none is made",
    "connection.state": "the answer does not belong to a departure of this browser: an old tab, or a forged link",
    "transaction.gone": "the login is gone: the page was open for too long, or it belongs to another browser",
    "transaction.finished": "the login was finished already, probably in another tab",
    "transaction.raced": "two requests of the same login came at once",
    "cookies.blocked": "the browser did not send our cookie back",
    "form.stale": "the form was older than what its browser knows",
    "client.unknown": "the app is not configured at this tenant",
    "redirect_uri.unknown": "the app asked to be answered at an address that is not configured for it",
    "page.not_found": "there is no such page",
    "host.unknown": "the request came for a host that is not ours",
    "tenant.unknown": "there is no such tenant",
    "internal": "there is a mistake in the program; the log has the traceback",
    "user.blocked": "the account is blocked",
}


def sentences(story: Story) -> Iterator[str]:
    """The story in plain words, a sentence a line."""
    where = f" at {story.tenant}" if story.tenant else ""
    app = f", for the app {story.client}" if story.client else ""
    yield f"On {story.at:%Y-%m-%d} at {story.at:%H:%M:%S} UTC{where}{app}: {story.event} [{story.code}]."
    if story.began:
        who = f" for {story.identifier}" if story.identifier else ""
        yield f"The login began at {story.began[11:19]} UTC{who}."
    if story.connection:
        yield f"It went by the connection {story.connection}."
    for name, answer in story.checks:
        words = CHECKS.get(name)
        if words is None:
            continue
        if answer == NOT_READ:
            yield f"  ? {name}: the account was not read for this page"
        else:
            yield f"  {'-' if answer == UNMET else '+'} {name}: {words[answer == UNMET]}"
    if story.step:
        yield f"So the next step was: {story.step.replace('_', ' ')}."
    yield f"Why: {CODES.get(story.code, f'see {story.code} in the list of error codes')}."
    if story.detail:
        yield f"In detail: {story.detail}"
    yield _seen(story)


def _seen(story: Story) -> str:
    page = f" on {story.path}" if story.path else ""
    agent = f" in {story.agent}" if story.agent else ""
    return f"The person saw{page}{agent}: HTTP {story.status}, with the reference {story.reference}."
