"""The field for a new password, wherever it stands, and what is said when one is refused."""

from __future__ import annotations

from broker.core.values import User
from broker.flows.passwords import PasswordRefused
from broker.web.pages import NewPassword, NewPasswordError
from broker.web.shield import ShieldedForm
from broker.web.visit import Visit


def field(current: Visit, user: User, errors: tuple[NewPasswordError, ...] = ()) -> NewPassword:
    rules = current.tenant.rules.password
    personal = [current.tenant.name, user.username or "", (user.email or "").partition("@")[0]]
    return NewPassword(
        min_length=rules.min_length,
        max_length=rules.max_length,
        personal=tuple(word for word in personal if len(word) >= 4),
        ask_twice=rules.ask_twice,
        errors=errors,
    )


def refused(refusal: PasswordRefused) -> tuple[NewPasswordError, ...]:
    return tuple(NewPasswordError(one.weakness.value) for one in refusal.refusals)


def different(current: Visit, form: ShieldedForm) -> tuple[NewPasswordError, ...]:
    """Nothing typed, or two different ones where the tenant asks twice."""
    if not form.text("password"):
        return (NewPasswordError.EMPTY,)
    if current.tenant.rules.password.ask_twice and form.text("password") != form.text("password_again"):
        return (NewPasswordError.DIFFERENT,)
    return ()
