"""An environment is a tenant of its own that inherits everything (CONTRACT 2)."""

from __future__ import annotations

from tests.settings.conftest import Folder

TENANT = """\
tenant: acme
name: Acme
issuer: https://login.acme.example
branding: {color: "#0b5fff", support_url: https://acme.example/help}
mail: {from: no-reply@acme.example}
languages: [en, de]
connections:
  - {id: users, type: database, domains: [acme.example]}
  - {id: sso, type: oidc, issuer: "https://sso.acme.example", client_id: live, timeout: 9}
clients:
  - {client_id: shop, client_name: Shop, redirect_uris: ["https://shop.example/callback"]}
environments:
  live: {}
  test:
    mail: {only_to: ["*@acme.example"]}
    branding: {support_url: null}
    languages: [en]
    connections:
      - {id: sso, client_id: test}
      - {id: extra, type: database}
    clients:
      - {client_id: shop, redirect_uris: ["https://test.shop.example/callback"]}
  dev:
    issuer: https://dev.acme.example
    mail: {transport: "maildir:var/mail-dev"}
    connections:
      - {id: sso, type: database}
"""


def test_live_is_the_tenant_and_the_others_are_tenants_of_their_own(folder: Folder) -> None:
    folder.write("tenants/acme.yaml", TENANT)
    found = folder.load().tenants
    assert [(t.id, t.environment, t.directory, t.issuer) for t in found.values()] == [
        ("acme", "live", "acme/live", "https://login.acme.example"),
        ("test-acme", "test", "acme/test", "http://localhost:8000/t/test-acme"),
        ("dev-acme", "dev", "acme/dev", "https://dev.acme.example"),
    ]


def test_mappings_are_merged_key_by_key(folder: Folder) -> None:
    test = folder.tenant(TENANT, "test-acme")
    assert test.mail.sender == "no-reply@acme.example"
    assert test.mail.only_to == ("*@acme.example",)
    assert test.name == "Acme"
    assert folder.load().tenants["acme"].mail.only_to == ()


def test_null_restores_the_default(folder: Folder) -> None:
    test = folder.tenant(TENANT, "test-acme")
    assert test.branding.color == "#0b5fff"
    assert test.branding.support_url is None


def test_connections_and_clients_are_merged_by_their_id(folder: Folder) -> None:
    test = folder.tenant(TENANT, "test-acme")
    assert [entry.id for entry in test.connections] == ["users", "sso", "extra"]
    assert (test.connections[1].settings.client_id, test.connections[1].settings.timeout) == ("test", 9)
    assert test.clients["shop"].client_name == "Shop"
    assert test.clients["shop"].redirect_uris == ("https://test.shop.example/callback",)


def test_a_connection_of_another_type_takes_the_place_of_the_inherited_one(folder: Folder) -> None:
    dev = folder.tenant(TENANT, "dev-acme")
    assert [(entry.id, entry.type) for entry in dev.connections] == [("users", "database"), ("sso", "database")]


def test_other_lists_are_replaced(folder: Folder) -> None:
    assert folder.tenant(TENANT, "test-acme").languages == ("en",)


def test_what_an_environment_changes_does_not_change_the_others(folder: Folder) -> None:
    live = folder.tenant(TENANT, "acme")
    assert live.connections[1].settings.client_id == "live"
    assert live.languages == ("en", "de")
    assert live.branding.support_url == "https://acme.example/help"


def test_live_is_there_without_being_named(folder: Folder) -> None:
    folder.write("tenants/acme.yaml", "tenant: acme\nenvironments: {test: }\n")
    assert list(folder.load().tenants) == ["acme", "test-acme"]


def test_live_may_be_changed_too(folder: Folder) -> None:
    folder.write("tenants/acme.yaml", "tenant: acme\nenvironments: {live: {name: Live}, test: {}}\n")
    assert [tenant.name for tenant in folder.load().tenants.values()] == ["Live", "acme"]


def test_mail_of_the_installation_is_inherited_and_overridden(folder: Folder) -> None:
    folder.write("broker.yaml", "mail: {from: all@acme.example, transport: 'console:', only_to: ['*@a.example']}\n")
    folder.write("tenants/acme.yaml", "tenant: acme\nenvironments: {test: {mail: {only_to: []}}}\n")
    live, test = folder.load().tenants.values()
    assert (live.mail.sender, live.mail.transport, live.mail.only_to) == (
        "all@acme.example",
        "console:",
        ("*@a.example",),
    )
    assert test.mail.only_to == ()


def test_a_mistake_of_the_tenant_is_reported_once_and_not_for_every_environment(folder: Folder) -> None:
    folder.write("tenants/acme.yaml", TENANT.replace("timeout: 9", "timeout: 900"))
    assert len(folder.problems()) == 1
