"""node-oidc-provider, certified, as the upstream of our `oidc` connection; a certified relying party in front of us."""

from __future__ import annotations

from collections.abc import Iterator
from string import Template
from typing import Any

import pytest

from tests.peers.peers import RELYING_PARTY, provider, verdict
from tests.servers import Homerealm, homerealm

pytestmark = pytest.mark.peer
SECRET = "the-secret-of-homerealm-at-its-upstream"
TENANT = Template("""\
tenant: acme
name: Acme
connections:
  - {id: users, type: database, title: "Acme account", identifiers: [email, username]}
  - {id: partner, type: oidc, title: "Partner", issuer: "$upstream", client_id: homerealm, client_secret: $secret,
     domains: [upstream.example]}
clients:
  - client_id: peer
    client_name: The peer
    client_secret: $client_secret
    redirect_uris: [$redirect_uri]
    post_logout_redirect_uris: [$post_logout_redirect_uri]
    grant_types: [authorization_code, refresh_token]
""")


@pytest.fixture(scope="module")
def upstream_and_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Homerealm]]:
    with homerealm() as server:
        ours = {
            "client_id": "homerealm",
            "client_secret": SECRET,
            "redirect_uris": [f"{server.issuer()}/callback/partner"],
            "post_logout_redirect_uris": [f"{server.issuer()}/end-session"],
        }
        with provider(tmp_path_factory.mktemp("upstream") / "log", ours) as upstream:
            server.configure({"acme": TENANT.substitute(RELYING_PARTY, upstream=upstream, secret=SECRET)})
            with server.serving():
                yield upstream, server


def _report(upstream: str, server: Homerealm, user: str, **authorize: Any) -> dict[str, Any]:
    accounts = {
        upstream: {"user": user, "password": "anything"},
        server.origin: {"user": f"{user}@upstream.example", "password": "never asked for"},
    }
    return verdict(
        "rp-openid-client.mjs", issuer=server.issuer(), accounts=accounts, authorize=authorize, **RELYING_PARTY
    )


def test_a_person_signs_in_upstream_and_arrives_at_the_app(upstream_and_broker: tuple[str, Homerealm]) -> None:
    upstream, server = upstream_and_broker
    report = _report(upstream, server, "grace", connection="partner")
    assert report["userinfo"]["email"] == "grace@upstream.example"
    assert report["subject"] != "grace"
    assert any(upstream in page for page in report["pages"])


def test_an_address_of_the_partners_domain_leads_to_the_partner(upstream_and_broker: tuple[str, Homerealm]) -> None:
    upstream, server = upstream_and_broker
    report = _report(upstream, server, "hedy")
    assert report["userinfo"]["email"] == "hedy@upstream.example"
    assert any(upstream in page for page in report["pages"])


def test_the_same_person_upstream_is_the_same_user_here(upstream_and_broker: tuple[str, Homerealm]) -> None:
    upstream, server = upstream_and_broker
    subjects = {_report(upstream, server, "ida", connection="partner")["subject"] for _ in range(2)}
    others = {_report(upstream, server, "joan", connection="partner")["subject"]}
    assert len(subjects) == 1
    assert subjects.isdisjoint(others)
