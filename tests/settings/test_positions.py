"""Every mistake is reported at its line and column, with what would be right.

In the texts, `^` stands right before the place that the report must name, and is not part of the file.
"""

# ruff: noqa: E501 - a case a line reads as the table that it is

from __future__ import annotations

import pytest

from tests.settings.conftest import MINIMAL, Folder

MARK = "^"

BROKER = [
    ("an unknown key", "^base_ulr: http://localhost\n", "base_ulr: is not a key that exists here; did you mean base_url?"),
    ("a key unlike any other", "^zzz: 1\n", "zzz: is not a key that exists here; known here: base_url, database,"),
    ("a duplicate key", "base_url: http://localhost:1\n^base_url: http://localhost:2\n", "base_url: is here twice; it stands in line 1"),
    ("an unknown key inside", "mail: {from: a@b.example, ^transprot: 'console:'}\n", "mail.transprot: is not a key that exists here; did you mean transport?"),
    ("a list for a text", "base_url: ^[http://localhost]\n", "base_url: is a list; a text would be right"),
    ("a mapping for a list", "trusted_proxies: ^{a: b}\n", "trusted_proxies: is a mapping; a list, such as [one, two], would be right"),
    ("a text for a list", "trusted_proxies: ^10.0.0.0/8\n", "trusted_proxies: is a single value; a list"),
    ("a text for a mapping", "mail: ^console\n", "mail: is a single value; a mapping of keys and values would be right"),
    ("plain http", "base_url: ^http://login.acme.example\n", "base_url: is http, which only loopback addresses may be"),
    ("an issuer with a slash", "base_url: ^https://login.acme.example/\n", "base_url: ends with a slash"),
    ("an issuer with a query", "base_url: ^https://login.acme.example?a=b\n", "base_url: has a query"),
    ("an issuer with a fragment", "base_url: ^https://login.acme.example#a\n", "base_url: has a fragment"),
    ("an issuer in capitals", "base_url: ^https://Login.acme.example\n", "base_url: has upper-case letters in its host"),
    ("an issuer with a user", "base_url: ^https://me@login.acme.example\n", "base_url: has a user name in it"),
    ("an issuer with a bad port", "base_url: ^https://login.acme.example:99999\n", "base_url: is not an address"),
    ("an issuer that is half an address", "base_url: ^http://[::1\n", "base_url: is not an address"),
    ("a path as an issuer", "base_url: ^/login\n", "base_url: is not an absolute address"),
    ("an unknown database", "database: ^mysql://host/db\n", "database: is not a database we know; sqlite:///"),
    ("a database in memory", "database: ^'sqlite:///:memory:'\n", "database: is no file"),
    ("a database without a name", "database: ^postgresql://host\n", "database: names no database"),
    ("an unknown key-value store", "key_value: ^memcached://host\n", "key_value: is not a key-value store we know; embedded, redis://"),
    ("a secret key that is too short", "secret_key: ^hunter2\n", "secret_key: is too short; at least 32"),
    ("two secret keys", f"secret_key: {'x' * 32}\nsecret_key_file: ^var/key\n", "secret_key_file: is given and secret_key, too"),
    ("a sender that is none", "mail:\n  from: ^Acme\n", "mail.from: is not a sender;"),
    ("an unknown transport", "mail:\n  transport: ^ftp://host\n", "mail.transport: is not a mail transport we know;"),
    ("an unknown mail option", "mail:\n  transport: ^smtp://host?ssl=yes\n", "mail.transport: has an option we do not know"),
    ("a password in the clear", "mail:\n  transport: ^smtp://u:p@host?tls=none\n", "mail.transport: would send its password in the clear"),
    ("a pattern that is none", "mail:\n  only_to: ['*@acme.example', ^acme.example]\n", "mail.only_to[1]: is no pattern of addresses"),
    ("host bits in a network", "trusted_proxies: [^10.1.2.3/8]\n", "trusted_proxies[0]: has bits behind its prefix; 10.0.0.0/8 would be right"),
    ("a network that is none", "trusted_proxies:\n  - 10.0.0.0/8\n  - ^proxy\n", "trusted_proxies[1]: is not a network"),
    ("an address with a mistake", "egress: {allow: [^10.0.0.300]}\n", "egress.allow[0]: is neither a network nor a host"),
    ("a missing certificate file", "egress: {ca_bundle: ^etc/ca.pem}\n", "egress.ca_bundle: is no file"),
    ("an environment variable that is not set", "base_url: ^${ENV:NOWHERE}\n", "base_url: needs the environment variable NOWHERE, which is not set"),
    ("one that is not set, in the middle", "base_url: ^https://${ENV:NOWHERE}/sso\n", "base_url: needs the environment variable NOWHERE, which is not set"),
    ("one that is empty", "base_url: ^${ENV:EMPTY}\n", "base_url: needs the environment variable EMPTY, which is empty"),
    ("a reference that is none", "base_url: ^${NOWHERE}\n", "base_url: has a ${ that is neither ${ENV:NAME} nor ${FILE:path}"),
    ("a reference without its end", "base_url: ^'${ENV:NOWHERE'\n", "base_url: has a ${ without its }"),
    ("a file that is not there", "secret_key: ^${FILE:nowhere.txt}\n", "secret_key: needs the file "),
    ("a tab", "mail:\n^\tfrom: a@b.example\n", "has a tab in the indentation; spaces would be right"),
    ("a bracket that is not closed", "mail: {from: a@b.example\n^", "is not YAML: "),
    ("a second document", "base_url: http://localhost\n^---\nbase_url: http://localhost\n", "a second document begins here"),
    ("a tag", "base_url: ^!!python/name:os.system x\n", "has the tag tag:yaml.org,2002:python/name:os.system"),
    ("an alias to nowhere", "base_url: ^*nowhere\n", "refers to &nowhere, which stands nowhere above"),
    ("an alias to what contains it", "trusted_proxies: &a [^*a]\n", "refers to &a, which contains it"),
    ("a list as a key", "^[a, b]: c\n", "is a list or a mapping as a key"),
    ("a merge key", "a: &a {}\n^<<: *a\n", "<<: is a merge key, which YAML 1.2 no longer has"),
    ("a list at the top", "^- a\n", "is not a mapping; keys and values would be right"),
    ("nothing", "^# nothing here\n", "is empty; keys and values would be right"),
    ("a control character", "base_url: ^\x07\n", "has the control character U+0007 here"),
]  # fmt: skip

TENANT = [
    ("no name", "^name: Acme\n", "tenant: is missing; this key has no default"),
    ("a tenant that is no name", "tenant: ^Acme Inc\n", "tenant: is not usable as an id"),
    ("a quoted number", MINIMAL + "rules: {password: {min_length: ^'15'}}\n", "rules.password.min_length: is not an integer; digits without quotes"),
    ("a number that may be octal", MINIMAL + "rules: {password: {min_length: ^015}}\n", "rules.password.min_length: is not an integer"),
    ("a number that is too small", MINIMAL + "rules: {password: {min_length: ^4}}\n", "rules.password.min_length: is too small; at least 8 would be right"),
    ("a number that is too large", MINIMAL + "rules: {password: {max_length: ^4096}}\n", "rules.password.max_length: is too large; at most 1024"),
    ("a boolean of YAML 1.1", MINIMAL + "rules: {password: {blocklist: ^yes}}\n", "rules.password.blocklist: is not a boolean; true or false, without quotes"),
    ("a quoted boolean", MINIMAL + "rules: {password: {blocklist: ^'true'}}\n", "rules.password.blocklist: is not a boolean"),
    ("a number without a unit", MINIMAL + "rules:\n  lifetimes:\n    session: ^12\n", "rules.lifetimes.session: is not a duration; a number with its unit"),
    ("a code that lives too long", MINIMAL + "rules: {lifetimes: {code: ^2m}}\n", "rules.lifetimes.code: is 2m; from 1s to 60s would be right"),
    ("a transaction that ends too early", MINIMAL + "rules: {reset: {lifetime: 1h}, lifetimes: {transaction: ^30m}}\n", "rules.lifetimes.transaction: is not longer than rules.reset.lifetime"),
    ("a value that does not exist", MINIMAL + "rules: {second_factor: ^on}\n", "rules.second_factor: is not one of the values that exist; 'off', 'optional' or 'required'"),
    ("a second factor that nobody would ask for", MINIMAL + "rules: {second_factor: ^required}\n", "rules.second_factor: is not possible yet"),
    ("a history that nobody keeps", MINIMAL + "rules: {password: {history: ^3}}\n", "rules.password.history: is not possible yet"),
    ("a pale colour", MINIMAL + "branding: {color: ^'#ffff00'}\n", "branding.color: has a contrast of 1.07 to 1 with the light page (#ffffff); at least 4.5 to 1 would be right, for example #7a7a00"),
    ("a dark colour for the dark scheme", MINIMAL + "branding: {color: '#0b5fff', color_dark: ^'#0b5fff'}\n", "branding.color_dark: has a contrast of 3.46 to 1 with the dark page"),
    ("a colour by name", MINIMAL + "branding: {color: ^blue}\n", 'branding.color: is not a colour; "#0b5fff" would be right'),
    ("a logo elsewhere", MINIMAL + "branding: {logo: ^../../etc/passwd}\n", "branding.logo: has not the right form"),
    ("a language that is none", MINIMAL + "languages: [en, ^English]\n", "languages[1]: has not the right form"),
    ("the same language twice", MINIMAL + "languages: [en, ^en]\n", "languages: is here twice"),
    ("a connection without a type", MINIMAL + "connections:\n  - ^{id: users}\n", "connections[users].type: is missing; one of database, oidc would be right"),
    ("a type that does not exist", MINIMAL + "connections:\n  - {id: p, type: ^saml}\n", "connections[p].type: is not a type of connection that exists; types that exist: database, oidc"),
    ("a type with a slip", MINIMAL + "connections:\n  - {id: p, type: ^databse}\n", "connections[p].type: is not a type of connection that exists; did you mean database?"),
    ("a connection without a key", MINIMAL + "connections:\n  - ^{id: sso, type: oidc, issuer: 'https://a.example'}\n", "connections[sso].client_id: is missing"),
    ("an unknown key of a connection", MINIMAL + "connections:\n  - id: users\n    type: database\n    ^sign_up: true\n", "connections[users].sign_up: is not a key that exists here; did you mean signup?"),
    ("two connections with one id", MINIMAL + "connections:\n  - {id: users, type: database}\n  - {id: ^users, type: database}\n", "connections[1].id: is here twice"),
    ("a domain of two connections", MINIMAL + "connections:\n  - {id: a, type: database, domains: [acme.example]}\n  - {id: b, type: database, domains: [^ACME.example]}\n", "connections[b].domains: belongs to a connection already"),
    ("an address as a domain", MINIMAL + "connections: [{id: a, type: database, domains: [^ada@acme.example]}]\n", "connections[a].domains[0]: is not a domain; what stands behind the @"),
    ("a reset that does not fit", MINIMAL + "connections:\n  - id: a\n    type: database\n    reset: {how: text, url: ^'https://a.example'}\n", "connections[a].reset.url: has no meaning with how: text"),
    ("a reset without its page", MINIMAL + "connections:\n  - {id: a, type: oidc, issuer: 'https://a.example', client_id: b, reset: {how: ^deep_link}}\n", "connections[a].reset.how: is deep_link, but there is no url"),
    ("connections that are no list", MINIMAL + "connections: ^{users: {type: database}}\n", "connections: is not a list"),
    ("a connection that is no mapping", MINIMAL + "connections: [^users]\n", "connections[0]: is no mapping"),
    ("two clients with one id", MINIMAL + "clients:\n- {client_id: a, redirect_uris: ['https://a.example']}\n- {client_id: ^a, redirect_uris: ['https://a.example']}\n", "clients[1].client_id: is here twice"),
    ("a client of an unknown connection", MINIMAL + "connections: [{id: users, type: database}]\nclients:\n- {client_id: a, redirect_uris: ['https://a.example'], connections: [users, ^usres]}\n", "clients[a].connections: names a connection that this tenant does not have; did you mean users?"),
    ("a client id with a tilde", MINIMAL + "clients:\n- {client_id: ^~homerealm, redirect_uris: ['https://a.example']}\n", "clients[~homerealm].client_id: has not the right form"),
    ("a redirect URI with a fragment", MINIMAL + "clients:\n- client_id: a\n  redirect_uris:\n    - https://a.example/\n    - ^https://a.example/#b\n", "clients[a].redirect_uris[1]: has a fragment; an exact address such as"),
    ("a redirect URI by http", MINIMAL + "clients: [{client_id: a, redirect_uris: [^'http://a.example/']}]\n", "clients[a].redirect_uris[0]: is http, which only loopback"),
    ("a redirect URI with a script", MINIMAL + "clients: [{client_id: a, redirect_uris: [^'javascript:alert(1)']}]\n", "clients[a].redirect_uris[0]: has the scheme javascript"),
    ("a redirect URI with half a host", MINIMAL + "clients: [{client_id: a, redirect_uris: [^'http://[::1']}]\n", "clients[a].redirect_uris[0]: is not a URI"),
    ("an app that starts by http", MINIMAL + "clients: [{client_id: a, redirect_uris: ['https://a.example'], initiate_login_uri: ^'http://a.example'}]\n", "clients[a].initiate_login_uri: is http"),
    ("a client without a way back", MINIMAL + "clients:\n- ^{client_id: a}\n", "clients[a].redirect_uris: is missing; the address that people are sent back to"),
    ("a public client that is not", MINIMAL + "clients:\n- {client_id: a, client_secret: b, redirect_uris: ['https://a.example'], token_endpoint_auth_method: ^none}\n", "clients[a].token_endpoint_auth_method: is none, but there is a client_secret"),
    ("a client without its secret", MINIMAL + "clients:\n- {client_id: a, redirect_uris: ['https://a.example'], token_endpoint_auth_method: ^client_secret_post}\n", "clients[a].token_endpoint_auth_method: is client_secret_post, but there is no client_secret"),
    ("a grant type that we do not have", MINIMAL + "clients:\n- {client_id: a, redirect_uris: ['https://a.example'], grant_types: [authorization_code, ^password]}\n", "clients[a].grant_types[1]: is not one of the values that exist; 'authorization_code', 'refresh_token' or 'client_credentials'"),
    ("an administrator from nowhere", MINIMAL + "admins: [{connection: ^staff, identifier: ada@acme.example, role: owner}]\n", "admins[0].connection: names a connection that this tenant does not have"),
    ("an administrator twice", MINIMAL + "connections: [{id: users, type: database}]\nadmins:\n- {connection: users, identifier: ada@acme.example, role: owner}\n- ^{connection: users, identifier: Ada@acme.example, role: admin}\n", "admins[1]: names the same person twice"),
    ("an administrator by a name that anybody could take", MINIMAL + "connections: [{id: users, type: database}]\nadmins: [{connection: users, identifier: ^ada, role: owner}]\n", "admins[0].identifier: is not one e-mail address"),
    ("a role that does not exist", MINIMAL + "connections: [{id: users, type: database}]\nadmins: [{connection: users, identifier: ada@acme.example, role: ^root}]\n", "admins[0].role: is not one of the values that exist; 'helpdesk', 'admin' or 'owner'"),
    ("an environment with a bad name", MINIMAL + "environments: {live: {}, ^Test-1: {}}\n", "environments.Test-1: is not usable as an id; a lower-case word"),
    ("an environment that is no mapping", MINIMAL + "environments: {live: {}, test: ^on}\n", "environments.test: is a single value; a mapping of keys and values would be right"),
    ("environments that are a list", MINIMAL + "environments: ^[live, test]\n", "environments: is a list; a mapping of keys and values would be right"),
    ("a tenant inside an environment", MINIMAL + "environments: {test: {^tenant: other}}\n", "environments.test.tenant: is the same in every environment"),
    ("a mistake inside an environment", MINIMAL + "mail: {from: a@b.example}\nenvironments:\n  test:\n    mail:\n      only_to: [^acme.example]\n", "mail.only_to[0]: is no pattern of addresses"),
    ("an unknown key inside an environment", MINIMAL + "environments: {test: {branding: {^colour: red}}}\n", "branding.colour: is not a key that exists here; did you mean color?"),
    ("a missing key inside an environment", MINIMAL + "connections: [{id: users, type: database}]\nenvironments:\n  test:\n    connections:\n      - ^{id: sso, type: oidc, client_id: a}\n", "connections[sso].issuer: is missing"),
]  # fmt: skip


def marked(text: str) -> tuple[str, int, int]:
    """The text without its mark, and the line and column where that stood."""
    before, mark, after = text.partition(MARK)
    assert mark
    assert MARK not in after
    return before + after, before.count("\n") + 1, len(before) - before.rfind("\n")


@pytest.mark.parametrize(("text", "report"), [case[1:] for case in BROKER], ids=[case[0] for case in BROKER])
def test_a_mistake_in_broker_yaml_is_reported_where_it_stands(folder: Folder, text: str, report: str) -> None:
    content, line, column = marked(text)
    folder.environ["EMPTY"] = ""
    folder.write("broker.yaml", content)
    folder.write("tenants/acme.yaml", MINIMAL)
    assert [found for found in folder.problems() if found.startswith(f"broker.yaml:{line}:{column}: {report}")], (
        folder.problems()
    )


@pytest.mark.parametrize(("text", "report"), [case[1:] for case in TENANT], ids=[case[0] for case in TENANT])
def test_a_mistake_in_a_tenant_is_reported_where_it_stands_and_once(folder: Folder, text: str, report: str) -> None:
    content, line, column = marked(text)
    folder.write("tenants/acme.yaml", content)
    found = folder.problems()
    assert len(found) == 1, found
    assert found[0].startswith(f"tenants/acme.yaml:{line}:{column}: {report}"), found


def test_columns_count_characters_and_not_bytes(folder: Folder) -> None:
    folder.write("tenants/acme.yaml", "{tenant: acme, name: Ächmé, zork: 1}\n")
    assert folder.problems()[0].startswith("tenants/acme.yaml:1:29: zork: ")


def test_bytes_that_are_not_utf_8_are_reported_where_they_begin(folder: Folder) -> None:
    folder.write("tenants/acme.yaml", "tenant: acme\nname: é".encode() + b"\xff\xfe\n")
    assert folder.problems() == [
        "tenants/acme.yaml:2:8: is not UTF-8 from here on; a text file saved as UTF-8 would be right"
    ]


def test_every_mistake_of_every_file_is_reported_in_one_run(folder: Folder) -> None:
    folder.write("broker.yaml", "base_url: ftp://a\nzork: 1\n")
    folder.write(
        "tenants/acme.yaml", "tenant: acme\nzork: 1\nconnections: [{id: a, type: nothing}, {id: a, type: database}]\n"
    )
    folder.write("tenants/globex.yaml", "tenant: [")
    places = [line.split(": ")[0] for line in folder.problems()]
    assert places == [
        "broker.yaml:1:11",
        "broker.yaml:2:1",
        "tenants/acme.yaml:2:1",
        "tenants/acme.yaml:3:29",
        "tenants/acme.yaml:3:44",
        "tenants/globex.yaml:2:1",
    ]


def test_two_tenants_with_one_name_or_one_issuer_are_refused(folder: Folder) -> None:
    folder.write("tenants/a.yaml", "tenant: acme\nissuer: https://login.acme.example\n")
    folder.write("tenants/b.yaml", "tenant: acme\nissuer: https://login.acme.example\n")
    first, second = folder.problems()
    assert first.startswith("tenants/b.yaml:1:9: tenant: makes a second tenant acme (the other: ")
    assert second.startswith("tenants/b.yaml:2:9: issuer: is the issuer of another tenant (the other: ")


def test_an_environment_cannot_take_the_name_of_a_tenant(folder: Folder) -> None:
    folder.write("tenants/a.yaml", "tenant: acme\nenvironments: {test: {}}\n")
    folder.write("tenants/b.yaml", "tenant: test-acme\n")
    assert any("tenants/b.yaml:1:9: tenant: makes a second tenant test-acme" in line for line in folder.problems())


def test_a_folder_that_is_not_there_is_said_to_be_missing(folder: Folder) -> None:
    (folder.path / "broker.yaml").unlink()
    (folder.path / "tenants").rmdir()
    assert folder.problems() == [
        "broker.yaml:1:1: cannot be read (No such file or directory); a readable file would be right",
        "tenants:1:1: cannot be read (No such file or directory); a folder with a file for each tenant would be right",
    ]


def test_a_folder_without_tenants_is_refused(folder: Folder) -> None:
    assert folder.problems() == ["tenants:1:1: has no tenant; a file such as acme.yaml would be right"]


def test_a_file_that_would_be_overlooked_is_reported(folder: Folder) -> None:
    folder.write("tenants/acme.yaml", MINIMAL)
    folder.write("tenants/globex.yml", "tenant: globex\n")
    assert folder.problems() == ["tenants/globex.yml:1:1: would be ignored; globex.yaml would be right"]
