"""Every form of the hosted pages. Validation that needs more than the form itself is the flows' business."""

from __future__ import annotations

from wtforms import BooleanField, StringField

from broker.web.shield import ShieldedForm


class LoginForm(ShieldedForm):
    form_name = "login"
    username = StringField()
    password = StringField()
    remember = BooleanField()


class ConnectionForm(ShieldedForm):
    form_name = "connection"
    connection = StringField()
    username = StringField()


class PasswordForm(ShieldedForm):
    form_name = "password"
    username = StringField()
    password = StringField()


class CancelForm(ShieldedForm):
    form_name = "cancel"


class OtherForm(ShieldedForm):
    form_name = "other"


class SelectAccountForm(ShieldedForm):
    form_name = "select-account"
    account = StringField()


class MustChangeForm(ShieldedForm):
    form_name = "must-change"
    current_password = StringField()
    password = StringField()
    password_again = StringField()


class ConsentForm(ShieldedForm):
    form_name = "consent"
    decision = StringField()


class ForgotForm(ShieldedForm):
    form_name = "forgot"
    also = ("resend",)
    username = StringField()


class ElsewhereForm(ShieldedForm):
    form_name = "reset-elsewhere"
    connection = StringField()
    username = StringField()


class ResetForm(ShieldedForm):
    form_name = "reset"
    password = StringField()
    password_again = StringField()


class SignupForm(ShieldedForm):
    form_name = "signup"
    connection = StringField()
    email = StringField()
    username = StringField()


class SignOutForm(ShieldedForm):
    form_name = "sign-out"
    decision = StringField()


class SessionForm(ShieldedForm):
    form_name = "session"
    session = StringField()


class SessionsForm(ShieldedForm):
    form_name = "sessions"


class AccountPasswordForm(ShieldedForm):
    form_name = "account-password"
    current_password = StringField()
    password = StringField()
    password_again = StringField()


class AdminConfirmForm(ShieldedForm):
    form_name = "admin-confirm"
    password = StringField()
    next = StringField()


class AdminSetPasswordForm(ShieldedForm):
    form_name = "admin-set-password"
    password = StringField()


def admin_form(action: str) -> type[ShieldedForm]:
    """The form of one entry in the More menu."""
    return type("AdminActionForm", (ShieldedForm,), {"form_name": f"admin-{action}"})
