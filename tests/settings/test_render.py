"""What is generated from the models: the schema, the example, the reference."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from broker.settings.client import ClientSettings
from broker.settings.connection import ResetSettings, SettingsModel
from broker.settings.model import (
    AdminSettings,
    BrandingSettings,
    BrokerFile,
    EgressSettings,
    LifetimeSettings,
    Mail,
    PasswordSettings,
    ResetSettingsOfTenant,
    RulesSettings,
    TenantFile,
    TenantMail,
)
from broker.settings.render import example, reference, schema_text
from broker.settings.schema import meaning, schema
from tests.settings.conftest import TYPES, Folder, Passwords, Upstream

MODELS: list[type[SettingsModel]] = [
    AdminSettings, BrandingSettings, BrokerFile, ClientSettings, EgressSettings, LifetimeSettings, Mail, Passwords,
    PasswordSettings, ResetSettings, ResetSettingsOfTenant, RulesSettings, TenantFile, TenantMail, Upstream,
]  # fmt: skip
BROKER, TENANT = "# ---- config/broker.yaml ----", "# ---- config/tenants/acme.yaml ----"
DISABLED = re.compile(r"^( *)#(?=[a-z_-])", re.MULTILINE)


def _parts(text: str) -> tuple[str, str]:
    broker, _, tenant = text.removeprefix(BROKER).partition(TENANT)
    return broker, tenant


def _keys(model: type[SettingsModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_key_has_its_documentation(model: type[SettingsModel]) -> None:
    assert [name for name in model.model_fields if not meaning(model, name)] == []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_key_is_in_the_example_and_in_the_reference(model: type[SettingsModel]) -> None:
    shown, described = example(TYPES), reference(TYPES)
    for key in _keys(model):
        assert re.search(rf"^ *(#|- |#- )?{key}:", shown, re.MULTILINE), key
        assert re.search(rf"^\| `([a-z_\[\].]+\.)?{key}` \|", described, re.MULTILINE), key


def test_the_example_loads_as_it_stands(folder: Folder) -> None:
    broker, tenant = _parts(example(TYPES))
    folder.write("broker.yaml", "{}\n" if yaml.safe_load(broker) is None else broker)
    folder.write("tenants/acme.yaml", tenant)
    assert folder.problems() == []


def test_the_example_loads_with_every_key_turned_on(folder: Folder) -> None:
    broker, tenant = (DISABLED.sub(r"\1", part) for part in _parts(example(TYPES)))
    # One of the two is enough, and having both is refused.
    broker = re.sub(r"(?m)^secret_key_file:.*\n", "", broker)
    folder.environ.update(HOMEREALM_SECRET_KEY="k" * 32, SHOP_SECRET="s", SSO_SECRET="s", REDIS_PASSWORD="r")
    folder.environ["HOMEREALM_EARLIER_SECRET_KEY"] = "e" * 32
    (folder.root / "etc").mkdir()
    (folder.root / "var").mkdir()
    (folder.root / "var" / "earlier-secret.key").write_text("e" * 32)
    (folder.root / "etc" / "internal-ca.pem").write_text("-")
    folder.write("broker.yaml", broker)
    folder.write("tenants/acme.yaml", tenant)
    assert folder.problems() == []
    acme = folder.load().tenants["acme"]
    assert [entry.id for entry in acme.connections] == ["users", "oidc"]
    assert set(acme.clients) == {"shop"}


def test_the_schema_names_every_key_and_refuses_others() -> None:
    definitions = schema(TYPES)["$defs"]
    assert set(definitions["BrokerFile"]["properties"]) == set(_keys(BrokerFile))
    assert set(definitions["TenantFile"]["properties"]) == set(_keys(TenantFile))
    assert set(definitions["connection-oidc"]["properties"]) == set(_keys(Upstream))
    assert definitions["connection-oidc"]["properties"]["type"]["const"] == "oidc"
    assert set(definitions["Overlay"]["properties"]) == set(_keys(TenantFile)) - {"tenant", "environments"}
    for name in ("BrokerFile", "TenantFile", "connection-database", "ClientSettings", "Overlay"):
        assert definitions[name]["additionalProperties"] is False


def test_every_reference_inside_the_schema_leads_somewhere() -> None:
    text = schema_text(TYPES)
    definitions = json.loads(text)["$defs"]
    named = set(re.findall(r'"\$ref": "#/\$defs/([^"]+)"', text))
    assert named <= set(definitions)
    assert {"Overlay", "Reference", "connection-database", "connection-oidc"} <= named


def test_the_schema_takes_a_reference_where_a_number_is_expected() -> None:
    timeout = schema(TYPES)["$defs"]["connection-oidc"]["properties"]["timeout"]
    assert timeout["anyOf"] == [
        {"type": "integer", "minimum": 1, "maximum": 60},
        {"$ref": "#/$defs/Reference"},
    ]


def test_a_secret_is_write_only_in_the_schema() -> None:
    text = json.dumps(schema(TYPES)["$defs"]["connection-oidc"]["properties"]["client_secret"])
    assert '"writeOnly": true' in text
