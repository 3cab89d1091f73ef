"""Loading again after a change: what did not change is not parsed again, and what is wrong is found all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.core.errors import ConfigurationError
from broker.core.values import TenantId
from broker.wiring import loader

TENANTS = 40


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    (folder / "tenants").mkdir(parents=True)
    (folder / "broker.yaml").write_text(f"base_url: https://login.test\nsecret_key: {'k1Zx' * 12}\n")
    for number in range(TENANTS):
        write(folder, number)
    return folder


def write(folder: Path, number: int, more: str = "") -> None:
    (folder / "tenants" / f"t{number:02}.yaml").write_text(f"tenant: t{number:02}\n{more}")


def test_one_changed_tenant_is_the_only_file_that_is_parsed_again(config: Path) -> None:
    reader = loader(config, {})
    before = reader.load()
    assert reader.parsed == TENANTS + 1
    write(config, 7, "name: Seven\n")
    after = reader.load()
    # broker.yaml is always parsed: it says where its keys stand.
    assert reader.parsed == TENANTS + 1 + 2
    assert after.version != before.version
    assert after.tenants[TenantId("t07")].name == "Seven"
    assert all(after.tenants[id] is before.tenants[id] for id in before.tenants if id != "t07")


def test_loading_again_gives_what_loading_afresh_gives(config: Path) -> None:
    reader = loader(config, {})
    reader.load()
    write(config, 3, "name: Three\nenvironments: {test: {}}\n")
    (config / "tenants" / "t09.yaml").unlink()
    assert reader.load() == loader(config, {}).load()


def test_a_change_of_what_tenants_inherit_reads_all_of_them_again(config: Path) -> None:
    reader = loader(config, {})
    reader.load()
    (config / "broker.yaml").write_text(f"base_url: https://other.test\nsecret_key: {'k1Zx' * 12}\n")
    settings = reader.load()
    assert reader.parsed == 2 * (TENANTS + 1)
    assert {tenant.issuer for tenant in settings.tenants.values()} == {
        f"https://other.test/t/t{number:02}" for number in range(TENANTS)
    }


def test_what_must_be_different_between_files_is_checked_with_those_that_did_not_change(config: Path) -> None:
    reader = loader(config, {})
    reader.load()
    write(config, 7, "issuer: https://login.test/t/t08\n")
    with pytest.raises(ConfigurationError) as refused:
        reader.load()
    assert "t08.yaml:1:9: issuer: is the issuer of another tenant (the other: " in refused.value.problems[0]
    assert "t07.yaml:2)" in refused.value.problems[0]


def test_a_secret_is_read_again_although_the_file_that_refers_to_it_did_not_change(config: Path) -> None:
    secret = config.parent / "secret"
    secret.write_text("a-secret-of-a-client")
    write(config, 7, "clients: [{client_id: app, client_secret: '${FILE:secret}', redirect_uris: [https://a.test/]}]\n")
    reader = loader(config, {})
    before = reader.load()
    assert reader.outside == {secret}
    secret.write_text("another-secret-of-it")
    after = reader.load()
    assert after.tenants[TenantId("t07")] != before.tenants[TenantId("t07")]
    secret.unlink()
    for _ in range(2):
        with pytest.raises(ConfigurationError) as refused:
            reader.load()
        assert "cannot be read" in refused.value.problems[0]
        assert reader.outside == {secret}


def test_a_mistake_is_reported_every_time_until_it_is_mended(config: Path) -> None:
    reader = loader(config, {})
    reader.load()
    write(config, 7, "nonsense: 1\n")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"t07\.yaml:2:1: nonsense"):
            reader.load()
    write(config, 7)
    assert len(reader.load().tenants) == TENANTS
