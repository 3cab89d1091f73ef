"""A login's question to the policy as a span. Only where traces are on."""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.tenant import Tenant
from broker.core.transaction import Transaction
from broker.core.values import User
from broker.core.watching import Spans
from broker.flows.sign_in import Next, SignIn


@dataclass(frozen=True)
class TracedSignIn(SignIn):
    spans: Spans

    def ask(self, tenant: Tenant, transaction: Transaction, just_read: User | None = None) -> Next:
        with self.spans.span("policy", tenant=tenant.id) as note:
            following = super().ask(tenant, transaction, just_read)
            note("step", following.step.value)
            return following
