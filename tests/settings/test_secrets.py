"""A secret is shown nowhere: not in a repr, not as an effective value, not in a report (SECURITY 19)."""

from __future__ import annotations

import json

import pytest

from broker.core.values import Secret
from broker.settings.changes import changes, describe
from broker.settings.effective import effective
from tests.settings.conftest import Folder, Upstream

CANARY = "canary-9f2c51"
BROKER = """\
secret_key: ${ENV:CANARY}-and-some-more-characters
database: postgresql://homerealm:${ENV:CANARY}@db/homerealm
key_value: redis://:${ENV:CANARY}@cache:6379/0
mail: {transport: "smtp://user:${ENV:CANARY}@mail.acme.example:587"}
"""
TENANT = """\
tenant: acme
connections:
  - {id: sso, type: oidc, issuer: "https://sso.acme.example", client_id: a, client_secret: "${ENV:CANARY}"}
clients:
  - {client_id: shop, redirect_uris: ["https://shop.example"], client_secret: ["${ENV:CANARY}", "canary-9f2c51-old"]}
"""


@pytest.fixture
def secretive(folder: Folder) -> Folder:
    folder.environ["CANARY"] = CANARY
    folder.write("broker.yaml", BROKER)
    folder.write("tenants/acme.yaml", TENANT)
    return folder


def test_the_loaded_settings_have_the_secrets_and_do_not_print_them(secretive: Folder) -> None:
    settings = secretive.load()
    connection = settings.tenants["acme"].connections[0].settings
    assert connection.client_secret == Secret(CANARY)
    assert CANARY in settings.database
    assert CANARY.encode() in settings.secret_key
    assert CANARY not in repr(settings)
    assert settings.tenants["acme"].clients["shop"].secret_digests[0] not in repr(settings)
    assert CANARY not in repr(connection) + str(connection) + connection.model_dump_json()


def test_effective_values_mask_secrets_and_passwords_in_addresses(secretive: Folder) -> None:
    settings = secretive.load()
    shown = effective(settings)
    text = json.dumps(shown)
    assert CANARY not in text
    assert settings.tenants["acme"].clients["shop"].secret_digests[0] not in text
    assert shown["database"] == "postgresql://homerealm:***@db/homerealm"
    assert shown["key_value"] == "redis://:***@cache:6379/0"
    assert shown["secret_key"] == "***"
    acme = shown["tenants"]["acme"]
    assert acme["mail"]["transport"] == "smtp://user:***@mail.acme.example:587"
    assert acme["connections"]["sso"]["client_secret"] == "***"
    assert acme["clients"]["shop"]["client_secret"] == ["***", "***"]


def test_a_changed_secret_is_a_difference_that_shows_nothing(secretive: Folder) -> None:
    old = secretive.load()
    secretive.write(
        "tenants/acme.yaml", TENANT.replace('client_secret: "${ENV:CANARY}"', f'client_secret: "new-{CANARY}"')
    )
    new = secretive.load()
    (found,) = changes(describe(old), describe(new))
    assert (found.key, found.old, found.new) == ("tenants.acme.connections.sso.client_secret", "***", "***")
    assert CANARY not in json.dumps(describe(new))
    assert changes(describe(old), describe(old)) == []


def test_differences_name_what_was_added_changed_and_removed(folder: Folder) -> None:
    folder.write(
        "tenants/acme.yaml",
        "tenant: acme\nname: Acme\nrules: {reset: {lifetime: 30m}}\nconnections: [{id: a, type: database}]\n",
    )
    old = folder.load()
    folder.write("tenants/acme.yaml", "tenant: acme\nname: Acme\nrules: {reset: {lifetime: 60m}}\n")
    connection, lifetime = changes(describe(old), describe(folder.load()))
    assert (lifetime.key, lifetime.what, lifetime.new) == ("tenants.acme.rules.reset.lifetime", "changed", "1h")
    assert (connection.key, connection.what) == ("tenants.acme.connections.a", "removed")
    assert "cannot any more" in connection.loses


@pytest.mark.parametrize(
    "broken",
    [
        TENANT.replace("client_secret:", "client_secrt:"),
        TENANT.replace("client_id: a,", "client_id: a, timeout: '${ENV:CANARY}',"),
        TENANT.replace("https://sso.acme.example", "ftp://${ENV:CANARY}"),
        TENANT.replace("type: oidc", "type: ${ENV:CANARY}"),
        TENANT.replace("{id: sso,", '{id: "${ENV:CANARY}!",'),
        TENANT.replace('redirect_uris: ["https://shop.example"]', 'redirect_uris: ["${ENV:CANARY}"]'),
        TENANT.replace("{client_id: shop,", '{client_id: shop, connections: ["${ENV:CANARY}"],'),
        TENANT + "languages: ['${ENV:CANARY}']\n",
        TENANT + "branding: {color: '${ENV:CANARY}'}\n",
        TENANT + "'${ENV:CANARY}': 1\n",
    ],
)
def test_a_report_does_not_quote_a_secret(secretive: Folder, broken: str) -> None:
    secretive.write("tenants/acme.yaml", broken)
    problems = secretive.problems()
    assert problems
    assert CANARY not in "\n".join(problems)


def test_a_model_refuses_without_quoting_what_it_was_given() -> None:
    with pytest.raises(ValueError, match="timeout") as caught:
        Upstream(id="a", type="oidc", issuer="https://a.example", client_id="b", timeout=CANARY)  # type: ignore[arg-type]
    assert CANARY not in str(caught.value)
