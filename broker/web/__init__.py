"""The hosted pages: one blueprint per journey. A view parses, calls one flow, matches the outcome, answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask, Response, g

from broker.web import (
    account,
    authorize,
    consent,
    desk,
    errors,
    links,
    login,
    recovery,
    root,
    session,
    signup,
    upstream,
)
from broker.web.visit import open_visit

if TYPE_CHECKING:
    from flask import Blueprint

TENANT_VIEWS: tuple[Blueprint, ...] = (
    authorize.views, login.views, upstream.views, consent.views, recovery.views, links.views, signup.views,
    session.views, account.views, desk.views,
)  # fmt: skip
ROOT_VIEWS: tuple[Blueprint, ...] = (root.views,)


def _with_cookies(response: Response) -> Response:
    """Cookies that a view asked for leave with its answer."""
    current = g.get("homerealm_visit")
    if current is not None:
        response.headers.extend(current.jar.lines())
    return response


for _one in TENANT_VIEWS:
    _one.url_value_preprocessor(open_visit)
    _one.after_request(_with_cookies)
    errors.register(_one)
for _one in ROOT_VIEWS:
    errors.register(_one)


def register(app: Flask, prefix: str) -> None:
    """Add every page to an app, below a prefix (`""` or `/sso`)."""
    for one in ROOT_VIEWS:
        app.register_blueprint(one, url_prefix=prefix or None)
    for one in TENANT_VIEWS:
        app.register_blueprint(one, url_prefix=f"{prefix}/t/<tenant>")
