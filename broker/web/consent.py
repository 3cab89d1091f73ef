"""May this app have these?"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Blueprint

from broker.core.policy import Step
from broker.web.answers import away, follow, keep, page
from broker.web.forms import ConsentForm
from broker.web.login import load
from broker.web.pages import ConsentPage
from broker.web.visit import visit

if TYPE_CHECKING:
    from broker.web.reply import AnyReply

views = Blueprint("homerealm_consent", __name__)


@views.get("/consent")
def consent() -> AnyReply:
    current = visit()
    transaction = load(current, "query")
    following = current.runtime.sign_in.ask(current.tenant, transaction)
    if following.step is not Step.CONSENT or following.user is None:
        return follow(current, following)
    host = urlsplit(transaction.request.get("redirect_uri", "")).hostname or ""
    return page(current, ConsentPage(following.user.label, transaction.scopes, host), tx=transaction.id)


@views.post("/consent")
def consent_post() -> AnyReply:
    current = visit()
    form = ConsentForm.of(current)
    transaction = load(current)
    flow = current.runtime.sign_in
    following = flow.ask(current.tenant, transaction)
    if following.step is not Step.CONSENT or following.user is None:
        return follow(current, following)
    if form.text("decision") != "allow":
        url = current.runtime.provider.refuse(current.tenant, transaction.request, "access_denied")
        current.runtime.means.transactions.close(transaction)
        return away(url)
    return follow(current, keep(current, transaction, flow.consent(current.tenant, transaction, following.user)))
