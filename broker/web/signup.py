"""A new account begins with a proven address: the mail decides what happens next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint

from broker.core.errors import ChallengeNeeded, Denied, InvalidIdentifier, Throttled
from broker.core.identifiers import parse_email, parse_username
from broker.core.tenant import ConnectionEntry
from broker.core.transaction import Transaction
from broker.web.answers import go, page
from broker.web.challenge import origin
from broker.web.forms import SignupForm
from broker.web.login import sender_address
from broker.web.pages import Sent, SignupError, SignupPage, SignupSentPage
from broker.web.recovery import waiting
from broker.web.visit import Visit, visit

if TYPE_CHECKING:
    from broker.web.reply import AnyReply, Reply

views = Blueprint("homerealm_signup", __name__)


def _open_for_signup(current: Visit) -> ConnectionEntry | None:
    """Where people may make an account themselves; None: nowhere."""
    for entry in current.tenant.connections_of(current.client):
        if getattr(entry.settings, "signup", False):
            return entry
    return None


def _page(
    current: Visit, entry: ConnectionEntry, transaction: Transaction | None, *, email: str = "", username: str = "",
    errors: tuple[SignupError, ...] = (), status: int = 200, retry_after: int = 0,
) -> Reply:  # fmt: skip
    content = SignupPage(
        connection=entry.id,
        ask_username="username" in getattr(entry.settings, "identifiers", ()),
        email=email[:254],
        username=username[:128],
        errors=errors,
        retry_after=retry_after,
    )
    return page(current, content, tx=transaction.id if transaction else "", status=status)


@views.get("/signup")
def signup() -> AnyReply:
    current = visit()
    transaction = waiting(current, "query")
    entry = _open_for_signup(current)
    if entry is None:
        # `screen_hint=signup` is a hint: where nobody may sign up, the login page is what there is.
        return go(current, "/login", tx=transaction.id if transaction else "")
    hint = transaction.identifier if transaction and "@" in (transaction.identifier or "") else ""
    return _page(current, entry, transaction, email=hint or "")


@views.post("/signup")
def signup_post() -> AnyReply:
    current = visit()
    form = SignupForm.of(current)
    transaction = waiting(current, "form")
    entry = _open_for_signup(current)
    if entry is None:
        raise Denied(code="signup.off")
    email, username = form.text("email").strip(), form.text("username").strip()
    if errors := _mistakes(entry, email, username):
        return _page(current, entry, transaction, email=email, username=username, errors=errors, status=422)
    client = current.client
    try:
        # Counted before a username is looked up: the answer says whether it is taken.
        current.runtime.guard.mail(current.tenant, origin(current, "signup"))
    except ChallengeNeeded:
        return _page(current, entry, transaction, email=email, username=username, errors=(SignupError.CHALLENGE,),
                     status=403)  # fmt: skip
    except Throttled as wait:
        return _page(current, entry, transaction, email=email, username=username, errors=(SignupError.THROTTLED,),
                     status=429, retry_after=wait.retry_after)  # fmt: skip
    if username and not current.runtime.accounts.username_is_free(current.tenant, entry, username):
        taken = (SignupError.USERNAME_TAKEN,)
        return _page(current, entry, transaction, email=email, username=username, errors=taken, status=422)
    current.runtime.accounts.ask_to_register(
        current.tenant, entry, email, username, "", current.how,
        client=None if client is None or client.internal else client.client_id,
        transaction=transaction.id if transaction else None, browser=current.browser,
    )  # fmt: skip
    sent = Sent(email, sender_address(current.tenant), current.tenant.rules.reset.lifetime)
    return page(current, SignupSentPage(sent), tx=transaction.id if transaction else "")


def _mistakes(entry: ConnectionEntry, email: str, username: str) -> tuple[SignupError, ...]:
    found: list[SignupError] = []
    try:
        parse_email(email)
    except InvalidIdentifier:
        found.append(SignupError.EMAIL_MALFORMED if email else SignupError.EMAIL_EMPTY)
    if username:
        try:
            parse_username(username)
        except InvalidIdentifier:
            found.append(SignupError.USERNAME_MALFORMED)
    elif tuple(getattr(entry.settings, "identifiers", ())) == ("username",):
        found.append(SignupError.USERNAME_EMPTY)
    return tuple(found)
