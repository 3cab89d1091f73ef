"""The harness on trial: certified relying parties against a certified provider, so a failure against ours is ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.peers import RELYING_PARTY, mod_auth_openidc, provider, registered, verdict
from tests.servers import free_port

pytestmark = pytest.mark.peer
ANYBODY = {"*": {"user": "ada", "password": "anything"}}


@pytest.mark.parametrize("script", ["rp-openid-client.mjs", "rp-oauth4webapi.mjs"])
def test_a_relying_party_from_npm_gets_through_at_a_certified_provider(script: str, tmp_path: Path) -> None:
    with provider(tmp_path / "log", registered(free_port())) as issuer:
        report = verdict(script, issuer=issuer, accounts=ANYBODY, **RELYING_PARTY)
    assert report["subject"] == "ada"
    assert report["userinfo"]["email"] == "ada@upstream.example"


def test_mod_auth_openidc_gets_through_at_a_certified_provider(tmp_path: Path) -> None:
    port = free_port()
    with provider(tmp_path / "log", registered(port)) as issuer, mod_auth_openidc(issuer, port) as base:
        report = verdict("rp-mod-auth-openidc.mjs", base=base, accounts=ANYBODY)
    assert report["userinfo"]["email"] == "ada@upstream.example"
