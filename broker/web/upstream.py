"""Back from a provider."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from flask import Blueprint, request

from broker.flows.sign_in import ArrivalFailed
from broker.web.answers import away, follow, keep, upstream_failed
from broker.web.visit import visit

if TYPE_CHECKING:
    from broker.web.reply import AnyReply

views = Blueprint("homerealm_upstream", __name__)


@views.route("/callback/<connection>", methods=["GET", "POST"])
def callback(connection: str) -> AnyReply:
    """One address for each connection, so that no provider can answer for another (RFC 9700 4.4.2.2)."""
    current = visit()
    if request.method == "POST":
        # form_post from another site brings no Lax cookie: ask the browser to come again by GET.
        return away(f"{current.tenant.issuer}/callback/{quote(connection)}?{urlencode(current.form.pairs)}")
    id = current.query.get("state", "").partition(".")[0]
    waiting = current.runtime.sign_in.load(current.tenant, id, current.browser)
    current.belongs_to(waiting)
    try:
        before, following = current.runtime.sign_in.arrive(
            current.tenant, connection, dict(current.query), current.visitor, waiting
        )
    except ArrivalFailed as failed:
        return upstream_failed(current, failed.transaction, failed)
    return follow(current, keep(current, before, following))
