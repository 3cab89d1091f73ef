"""CSRF protection of our own forms: a MAC over browser cookie, transaction and form name (ARCHITECTURE 4).

Flask-WTF's own token lives in the cookie session, which is not used at all, and is valid across tenants of one host.
A host application's CSRFProtect is told to leave our blueprints alone; they protect themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from flask_wtf.form import FlaskForm
from werkzeug.datastructures import MultiDict
from wtforms.csrf.core import CSRF
from wtforms.validators import ValidationError

from broker.core.errors import BadRequest, CookiesBlocked, PageExpired
from broker.web.visit import Visit


def token(current: Visit, form: str, tx: str) -> str:
    """The value that a form of this name carries, for this browser and this transaction."""
    return current.runtime.vault.mac("csrf", *_bound_to(current, form, tx))


def _bound_to(current: Visit, form: str, tx: str) -> tuple[str, ...]:
    return current.jar.browser(), current.tenant.id, tx, form


class BoundToken(CSRF):
    """WTForms' CSRF interface on our MAC."""

    def generate_csrf_token(self, csrf_token_field: Any) -> str:
        return ""

    def validate_csrf_token(self, form: Any, field: Any) -> None:
        if not _genuine(form.meta.csrf_context, form.names()):
            raise ValidationError("stale")


def _genuine(current: Visit, names: Iterable[str]) -> bool:
    """Whether what was sent is one of these forms, of this browser and this login."""
    given, tx, vault = current.form.get("csrf_token", ""), current.form.get("tx", ""), current.runtime.vault
    return any(vault.is_mac(given, "csrf", *_bound_to(current, name, tx)) for name in names)


def _check(current: Visit) -> None:
    if current.form.twice:
        raise BadRequest(f"{sorted(current.form.twice)[0]} is there twice", code="request.duplicate")
    if set(current.query) & set(current.form):
        raise BadRequest("a field is in the address and in the form", code="request.duplicate")
    if not current.jar.has_browser:
        raise CookiesBlocked


class Fields:
    """What a form of ours said, after the same checks. WTForms' fields cost more than all of them, and validate
    nothing here: what every login sends is read without."""

    __slots__ = ("_fields", "form_name")

    def __init__(self, form_name: str, fields: Mapping[str, str]) -> None:
        self.form_name = form_name
        self._fields = fields

    def text(self, name: str) -> str:
        """The value of a field, as typed; empty when it was not sent."""
        return self._fields.get(name, "")

    def ticked(self, name: str) -> bool:
        """Whether a box was ticked, as WTForms' `BooleanField` has it."""
        return self.text(name) not in ("", "false")


class ShieldedForm(FlaskForm):  # type: ignore[misc]
    """A form of ours. `form_name` is the name that its page asked the CSRF value for."""

    form_name: ClassVar[str]
    also: ClassVar[tuple[str, ...]] = ()
    """Forms of other pages that are sent to the same address."""

    class Meta:
        csrf = True
        csrf_class = BoundToken
        csrf_field_name = "csrf_token"
        csrf_context = None
        locales = False

        def get_translations(self, form: Any) -> None:
            """None of its words is ever shown; Flask-WTF's would ask Flask for its configuration."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return (cls.form_name, *cls.also)

    @classmethod
    def of(cls, current: Visit) -> ShieldedForm:
        """The form as it was sent.

        Raises `CookiesBlocked` when the browser did not send our cookie back, `PageExpired` when the form is not of
        this browser, this login, or this page, `BadRequest` for a field in query and body or twice.
        """
        _check(current)
        form = cls(formdata=MultiDict(current.form.pairs), meta={"csrf_context": current})
        form.validate()
        if "csrf_token" in form.errors:
            raise PageExpired(code="form.stale")
        return form

    @classmethod
    def sent(cls, current: Visit) -> Fields:
        """The form as it was sent, without WTForms' fields. Raises what `of` raises."""
        _check(current)
        if not _genuine(current, cls.names()):
            raise PageExpired(code="form.stale")
        return Fields(cls.form_name, current.form)

    def text(self, name: str) -> str:
        """The value of a field, as typed; empty when it was not sent."""
        value = self[name].data
        return value if isinstance(value, str) else ""
