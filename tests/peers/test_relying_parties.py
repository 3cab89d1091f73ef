"""Relying parties that others wrote and had certified sign people in at Homerealm: login, refresh, userinfo, logout."""

from __future__ import annotations

from collections.abc import Iterator
from string import Template

import pytest

from tests.peers.peers import RELYING_PARTY, mod_auth_openidc, need_node, verdict
from tests.servers import Homerealm, free_port, homerealm

pytestmark = pytest.mark.peer
PASSWORD = "a long sentence that ada remembers"
ADA = {"*": {"user": "ada", "password": PASSWORD}}
TENANT = Template("""\
tenant: acme
name: Acme
connections:
  - {id: users, type: database, title: "Acme account", identifiers: [email, username]}
clients:
  - client_id: peer
    client_name: The peer
    client_secret: $client_secret
    redirect_uris: [$redirect_uri, "http://localhost:$apache/callback"]
    post_logout_redirect_uris: [$post_logout_redirect_uri, "http://localhost:$apache/bye/"]
    grant_types: [authorization_code, refresh_token, client_credentials]
  - client_id: peer-es256
    client_name: The peer with elliptic curves
    client_secret: $client_secret
    redirect_uris: [$redirect_uri]
    post_logout_redirect_uris: [$post_logout_redirect_uri]
    grant_types: [authorization_code, refresh_token]
    id_token_signed_response_alg: ES256
    first_party: false
""")


@pytest.fixture(scope="module")
def apache_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def broker(apache_port: int) -> Iterator[Homerealm]:
    need_node()
    with homerealm({"acme": TENANT.substitute(RELYING_PARTY, apache=apache_port)}) as server:
        server.add_user("ada", PASSWORD)
        with server.serving():
            yield server


@pytest.mark.parametrize("client_auth", ["basic", "post"])
@pytest.mark.parametrize("script", ["rp-openid-client.mjs", "rp-oauth4webapi.mjs"])
def test_a_certified_relying_party_signs_in_refreshes_and_signs_out(
    broker: Homerealm, script: str, client_auth: str
) -> None:
    report = verdict(script, issuer=broker.issuer(), accounts=ADA, client_auth=client_auth, **RELYING_PARTY)
    assert report["userinfo"]["email"] == "ada@acme.example"
    assert report["userinfo"]["email_verified"] is True
    assert report["userinfo"]["preferred_username"] == "ada"


@pytest.mark.parametrize("script", ["rp-openid-client.mjs", "rp-oauth4webapi.mjs"])
def test_id_tokens_with_es256_satisfy_a_client_of_somebody_else(broker: Homerealm, script: str) -> None:
    given = {**RELYING_PARTY, "client_id": "peer-es256", "metadata": {"id_token_signed_response_alg": "ES256"}}
    report = verdict(script, issuer=broker.issuer(), accounts=ADA, **given)
    assert report["userinfo"]["email"] == "ada@acme.example"


def test_the_metadata_of_rfc_8414_lead_to_the_same_place(broker: Homerealm) -> None:
    report = verdict("rp-oauth4webapi.mjs", issuer=broker.issuer(), accounts=ADA, discovery="oauth2", **RELYING_PARTY)
    assert report["ok"]


def test_mod_auth_openidc_protects_a_page_with_us(broker: Homerealm, apache_port: int) -> None:
    with mod_auth_openidc(broker.issuer(), apache_port) as base:
        report = verdict("rp-mod-auth-openidc.mjs", base=base, accounts=ADA)
    assert report["userinfo"]["email"] == "ada@acme.example"
