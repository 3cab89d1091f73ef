"""What a value in the YAML becomes."""

# ruff: noqa: E501 - YAML on one line reads better than the same line broken

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.core.tenant import AfterReset, SecondFactor
from tests.settings.conftest import KEY, MINIMAL, Folder, Passwords, Upstream


def _client_id(folder: Folder, written: str) -> str:
    tenant = folder.tenant(
        MINIMAL + f"connections: [{{id: sso, type: oidc, issuer: 'https://a.example', client_id: {written}}}]\n"
    )
    settings = tenant.connections[0].settings
    assert isinstance(settings, Upstream)
    return settings.client_id


@pytest.mark.parametrize(
    "written", ["0123", "1e3", "0x1F", "12:30", "on", "no", "true", "null", "~", "2026-11-21", "1_000", ".5", "-"]
)
def test_a_text_stays_what_was_written(folder: Folder, written: str) -> None:
    assert _client_id(folder, written) == written


def test_an_empty_value_is_no_text(folder: Folder) -> None:
    folder.write(
        "tenants/acme.yaml", MINIMAL + "connections:\n- {id: a, type: oidc, issuer: 'https://a.example', client_id: }\n"
    )
    assert folder.problems() == ["tenants/acme.yaml:3:63: connections[a].client_id: is empty; a text would be right"]


def test_numbers_and_booleans_are_those_of_yaml_1_2(folder: Folder) -> None:
    tenant = folder.tenant(
        MINIMAL
        + "rules: {password: {min_length: 20, blocklist: false, ask_twice: True}}\n"
        + "connections: [{id: a, type: oidc, issuer: 'https://a.example', client_id: b, timeout: 7, ratio: 2.5e-1}]\n"
    )
    assert tenant.rules.password.min_length == 20
    assert tenant.rules.password.blocklist is False
    assert tenant.rules.password.ask_twice is True
    assert tenant.connections[0].settings.timeout == 7
    assert tenant.connections[0].settings.ratio == 0.25


def test_what_is_commented_out_below_a_key_leaves_its_default(folder: Folder) -> None:
    tenant = folder.tenant(MINIMAL + "connections:\n#  - {id: users}\nbranding:\nrules:\nclients:\nenvironments:\n")
    assert tenant.connections == ()
    assert tenant.clients == {}
    assert tenant.rules.password.min_length == 15


def test_off_is_a_value_of_second_factor_and_not_a_boolean(folder: Folder) -> None:
    assert folder.tenant(MINIMAL + "rules: {second_factor: off}\n").rules.second_factor is SecondFactor.OFF


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("60s", timedelta(seconds=60)),
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(30)),
    ],
)
def test_durations_are_a_number_with_its_unit(folder: Folder, written: str, meant: timedelta) -> None:
    assert folder.tenant(MINIMAL + f"rules: {{lifetimes: {{session: {written}}}}}\n").rules.lifetimes.session == meant


@pytest.mark.parametrize(
    "written", ["30", "1.5h", "-1h", "1h30m", "PT1H", "1 h", "01h", "99999999999d", "999999999d", "''"]
)
def test_other_durations_are_refused(folder: Folder, written: str) -> None:
    folder.write("tenants/acme.yaml", MINIMAL + f"rules: {{lifetimes: {{session: {written}}}}}\n")
    (problem,) = folder.problems()
    assert problem.startswith("tenants/acme.yaml:2:30: rules.lifetimes.session: is ")


def test_a_request_waits_longer_than_a_reset_link_works(folder: Folder) -> None:
    rules = folder.tenant(MINIMAL + "rules: {reset: {lifetime: 12h, after: app}}\n").rules
    assert rules.reset.after is AfterReset.APP
    assert rules.lifetimes.transaction == timedelta(hours=12, minutes=30)


def test_a_reference_can_be_a_whole_value_or_a_part_of_one(folder: Folder) -> None:
    folder.environ.update(HOST="login.acme.example", ID="acme", SIZE="20", TRUE="true")
    (folder.root / "name.txt").write_text("Acme & sons\n")
    tenant = folder.tenant(
        "tenant: ${ENV:ID}\nissuer: https://${ENV:HOST}/${ENV:ID}\nname: ${FILE:name.txt}\n"
        'rules: {password: {min_length: "${ENV:SIZE}", ask_twice: "${ENV:TRUE}"}}\n'
    )
    assert tenant.issuer == "https://login.acme.example/acme"
    assert tenant.name == "Acme & sons"
    assert tenant.rules.password.min_length == 20
    assert tenant.rules.password.ask_twice is True


def test_what_a_reference_gives_is_not_looked_through_again(folder: Folder) -> None:
    folder.environ["NAME"] = "${ENV:OTHER} null"
    assert folder.tenant("tenant: acme\nname: ${ENV:NAME}\n").name == "${ENV:OTHER} null"


def test_two_dollars_make_one(folder: Folder) -> None:
    assert folder.tenant("tenant: acme\nname: a $${ENV:X} for $5 $\n").name == "a ${ENV:X} for $5 $"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "which is empty"),
        (b"\n", "which is empty"),
        (b"\xff", "which is not UTF-8"),
        (b"x" * 2_000_000, "larger than"),
    ],
)
def test_a_referenced_file_that_is_no_text_is_refused(folder: Folder, content: bytes, why: str) -> None:
    (folder.root / "secret").write_bytes(content)
    folder.write("tenants/acme.yaml", "tenant: acme\nname: ${FILE:secret}\n")
    (problem,) = folder.problems()
    assert problem.startswith(f"tenants/acme.yaml:2:7: name: needs the file {folder.root / 'secret'}, which is ")
    assert why in problem


def test_relative_paths_start_at_the_parent_of_the_configuration_folder(folder: Folder) -> None:
    (folder.root / "ca.pem").write_text("-")
    folder.write(
        "broker.yaml",
        "database: sqlite:///var/db\nmail: {transport: 'maildir:var/mail'}\nsecret_key_file: k/key\negress: {ca_bundle: ca.pem}\n",
    )
    folder.write("tenants/acme.yaml", "tenant: acme\nenvironments: {test: {mail: {transport: 'maildir:/srv/mail'}}}\n")
    asked = []
    settings = folder.load(lambda path: asked.append(path) or KEY)
    assert settings.database == f"sqlite:///{folder.root}/var/db"
    assert settings.tenants["acme"].mail.transport == f"maildir:{folder.root}/var/mail"
    assert settings.tenants["test-acme"].mail.transport == "maildir:/srv/mail"
    assert settings.egress.ca_bundle == f"{folder.root}/ca.pem"
    assert asked == [folder.root / "k" / "key"]


def test_the_key_file_is_not_touched_while_anything_is_wrong(folder: Folder) -> None:
    folder.write("tenants/acme.yaml", "tenant: acme\nzork: 1\n")
    asked = []
    with pytest.raises(Exception, match="zork"):
        folder.load(lambda path: asked.append(path) or KEY)
    assert asked == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (PermissionError(13, "Permission denied"), "cannot be read or made (Permission denied)"),
        (ValueError("not base64"), "cannot be used: not base64"),
        (b"short", "is too short"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_reported_at_its_key(
    folder: Folder, answer: Exception | bytes, why: str
) -> None:
    def key(_):
        if isinstance(answer, Exception):
            raise answer
        return answer

    folder.write("broker.yaml", "base_url: http://localhost\nsecret_key_file: var/key\n")
    folder.write("tenants/acme.yaml", MINIMAL)
    with pytest.raises(Exception, match="secret_key_file") as caught:
        folder.load(key)
    assert f"broker.yaml:2:18: secret_key_file: {why}" in str(caught.value)


def test_a_client_without_a_secret_is_public_and_one_with_a_secret_may_use_basic_and_post(folder: Folder) -> None:
    tenant = folder.tenant(
        MINIMAL + "clients:\n"
        "- {client_id: spa, redirect_uris: ['https://a.example']}\n"
        "- {client_id: shop, redirect_uris: ['https://a.example'], client_secret: abc}\n"
        "- {client_id: post, redirect_uris: ['https://a.example'], client_secret: [abc, '0123'], token_endpoint_auth_method: client_secret_post}\n"
    )
    methods = {client.client_id: client.token_endpoint_auth_method for client in tenant.clients.values()}
    assert methods == {"spa": "none", "shop": "client_secret", "post": "client_secret_post"}
    # printf %s abc | sha256sum
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert tenant.clients["shop"].secret_digests == (abc,)
    assert tenant.clients["post"].secret_digests[0] == abc
    assert len(tenant.clients["post"].secret_digests) == 2


def test_a_client_secret_keeps_its_leading_zeros(folder: Folder) -> None:
    one = folder.tenant(
        MINIMAL + "clients: [{client_id: a, redirect_uris: ['https://a.example'], client_secret: 0123}]\n"
    )
    two = folder.tenant(
        MINIMAL + "clients: [{client_id: a, redirect_uris: ['https://a.example'], client_secret: '0123'}]\n"
    )
    assert one.clients["a"].secret_digests == two.clients["a"].secret_digests


def test_domains_are_kept_in_a_labels_and_lower_case(folder: Folder) -> None:
    tenant = folder.tenant(
        MINIMAL + "connections: [{id: a, type: database, domains: ['*.Acme.example', Bücher.example]}]\n"
    )
    assert tenant.connections[0].domains == ("*.acme.example", "xn--bcher-kva.example")


def test_a_connection_is_an_entry_with_the_settings_of_its_type(folder: Folder) -> None:
    tenant = folder.tenant(
        MINIMAL
        + "connections:\n- {id: users, type: database, identifiers: [username]}\n- {id: b, type: database, title: B}\n"
    )
    assert [(entry.id, entry.type, entry.title) for entry in tenant.connections] == [
        ("users", "database", "users"),
        ("b", "database", "B"),
    ]
    assert tenant.connections[0].settings == Passwords(id="users", type="database", identifiers=("username",))


def test_aliases_stand_for_what_they_name(folder: Folder) -> None:
    tenant = folder.tenant(
        MINIMAL
        + "clients:\n- &a {client_id: a, redirect_uris: &r ['https://a.example']}\n- {client_id: b, redirect_uris: *r}\n"
    )
    assert tenant.clients["b"].redirect_uris == ("https://a.example",)


def test_a_billion_laughs_are_refused(folder: Folder) -> None:
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        laughs += f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    folder.write("tenants/acme.yaml", laughs)
    (problem,) = folder.problems()
    assert "aliases stand for more than 10000 values" in problem


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_nesting_without_end_is_refused(folder: Folder, opening: str) -> None:
    folder.write("tenants/acme.yaml", opening * 100_000)
    (problem,) = folder.problems()
    assert "is nested more than 32 levels deep" in problem or "is not YAML" in problem or "as a key" in problem


def test_a_byte_order_mark_is_passed_over(folder: Folder) -> None:
    folder.write("tenants/acme.yaml", b"\xef\xbb\xbftenant: acme\n")
    assert folder.load().tenants.keys() == {"acme"}


def test_the_version_changes_with_a_file_with_a_secret_and_with_nothing_else(folder: Folder) -> None:
    folder.environ["NAME"] = "Acme"
    folder.write("tenants/acme.yaml", "tenant: acme\nname: ${ENV:NAME}\n")
    first = folder.load().version
    assert folder.load().version == first
    folder.environ["NAME"] = "Acme & sons"
    second = folder.load().version
    folder.write("tenants/acme.yaml", "tenant: acme\nname: ${ENV:NAME}\nlanguages: [de]\n")
    assert len({first, second, folder.load().version}) == 3
