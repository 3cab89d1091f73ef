"""The configuration changes while people sign in: a login keeps what it began with, and loses what was switched off."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from broker import wiring
from broker.core.values import ConnectionId
from broker.processes import bell
from broker.processes.environment import RELOAD_BELL
from broker.processes.handed_down import inherited
from broker.reload import EARLIER, Live
from broker.testing.town import ACME, GLOBEX, Town
from tests.stories.journeys import at_the_app, open_app, reset_link, sign_in, type_identifier, type_password

CAROL = "carol@contoso.test"
TITLED = ACME.replace("title: Contoso", "title: Contoso staff")
WITHOUT_CONTOSO = ACME[: ACME.index("  - id: contoso")] + ACME[ACME.index("clients:") :]
OTHER_CLIENT = ACME.replace("client_id: demo", "client_id: other")
MOVED_CLIENT = ACME.replace("callback/acme", "callback/moved")


def test_a_login_keeps_the_configuration_that_it_began_with_and_the_next_one_has_the_new_one(town: Town) -> None:
    page = open_app(town.browser())
    assert town.broker.write(TITLED)
    assert "Contoso staff" not in type_identifier(page, "").text
    assert "Contoso staff" in open_app(town.browser()).text
    assert at_the_app(type_password(type_identifier(page, "ada")), "ada")


def test_a_person_who_is_at_the_provider_comes_back_to_the_configuration_of_before(town: Town) -> None:
    page = open_app(town.browser(), connection="contoso")
    assert town.broker.write(ACME.replace("client_id: homerealm", "client_id: not-known-upstream"))
    assert at_the_app(type_password(type_identifier(page, CAROL)), CAROL)
    assert open_app(town.browser(), connection="contoso").data_page == "error"


def test_an_app_that_was_removed_gets_nobody_any_more(town: Town) -> None:
    page = open_app(town.browser())
    assert town.broker.write(OTHER_CLIENT)
    refused = type_identifier(page, "ada")
    assert refused.data_page == "error"
    assert refused.url.startswith(town.broker.base)


def test_an_address_that_was_removed_gets_nobody_any_more(town: Town) -> None:
    page = type_identifier(open_app(town.browser()), "ada")
    assert town.broker.write(MOVED_CLIENT)
    refused = type_password(page)
    assert refused.data_page == "error"
    assert "Demo app" in refused.text


def test_a_connection_that_was_removed_signs_nobody_in(town: Town) -> None:
    page = open_app(town.browser(), connection="contoso")
    assert town.broker.write(WITHOUT_CONTOSO)
    back = type_password(type_identifier(page, CAROL))
    assert back.url.startswith(town.broker.base)
    assert not at_the_app(back, CAROL)


def test_challenges_that_were_switched_on_are_asked_for_in_logins_that_began_before(town: Town) -> None:
    """Or whoever tries passwords would keep some logins from the time before."""
    page = type_identifier(open_app(town.browser()), "ada")
    assert "data-challenge" not in page.html
    assert town.broker.write(ACME.replace("{after: app}}", "{after: app}, guard: {challenge: always}}"))
    refused = type_password(page)
    assert "data-challenge" in refused.html
    assert not at_the_app(refused, "ada")


def test_a_tenant_that_was_removed_is_gone_with_its_logins(town: Town) -> None:
    page = open_app(town.browser())
    (town.broker.config / "tenants" / "acme.yaml").unlink()
    assert town.broker.live.reload()
    assert type_identifier(page, "ada").status == 404


def test_a_process_that_has_not_that_version_any_more_goes_on_with_the_present_one_where_it_fits(town: Town) -> None:
    kept, lost = open_app(town.browser()), open_app(town.browser())
    for number in range(EARLIER + 1):
        assert town.broker.write(TITLED.replace("staff", f"staff {number}"))
    assert f"Contoso staff {EARLIER}" in type_identifier(kept, "").text
    assert at_the_app(type_password(type_identifier(kept, "ada")), "ada")
    assert town.broker.write(OTHER_CLIENT)
    assert type_identifier(lost, "ada").data_page == "error"


def test_an_earlier_configuration_is_let_go_of_when_no_login_can_need_it(town: Town) -> None:
    version = town.broker.runtime.settings.version
    assert town.broker.write(TITLED)
    assert town.broker.live.at_version(version) is not None
    town.later(hours=2, seconds=1)
    assert town.broker.live.at_version(version) is None


def test_a_new_password_leads_into_a_login_that_began_before_the_change(town: Town) -> None:
    browser = town.browser()
    page = open_app(browser).click("Don't remember your password?")
    type_identifier(page, "ada@acme.test")
    link = reset_link(town, "ada@acme.test")
    assert town.broker.write(TITLED)
    form = browser.go(link).form(field="new-password")
    assert at_the_app(form.fill({"new-password": "a new and longer passphrase"}).submit(), "ada")


def test_a_broken_file_is_refused_with_its_place_and_what_runs_goes_on(town: Town) -> None:
    before = town.broker.runtime
    assert not town.broker.write(ACME + "nonsense: 1\n")
    assert town.broker.runtime is before
    assert any("acme.yaml:" in line and "nonsense" in line for line in town.broker.live.refused)
    assert at_the_app(sign_in(town.browser(), "ada"), "ada")
    assert not town.broker.write(ACME)
    assert town.broker.live.refused == ()


def test_what_only_a_restart_can_change_is_refused_with_its_place(town: Town) -> None:
    before = town.broker.runtime
    text = (town.broker.config / "broker.yaml").read_text()
    other = re.sub("(?m)^database: .*$", "database: sqlite:///var/other.db", text)
    assert other != text
    assert not town.broker.write(other, "broker.yaml")
    (line,) = town.broker.live.refused
    assert "broker.yaml:2:1: database: changed, which needs a restart" in line
    assert town.broker.runtime is before


def test_connections_keep_what_they_hold_unless_their_own_settings_change(town: Town) -> None:
    def instance(id: str) -> object:
        return town.broker.runtime.connection(town.broker.tenant("acme"), ConnectionId(id))

    users, contoso = instance("users"), instance("contoso")
    assert town.broker.write(GLOBEX + "languages: [en, de]\n", "tenants/globex.yaml")
    assert instance("contoso") is contoso
    assert town.broker.write(TITLED)
    assert instance("users") is users
    assert instance("contoso") is not contoso


def test_a_secret_in_a_file_that_is_referred_to_is_found_when_it_changes(
    build_town: Callable[..., Town], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("upstream-secret-0123456789\n")
    town = build_town(acme=ACME.replace("upstream-secret-0123456789", f"${{FILE:{secret}}}"))
    live, now = town.broker.live, 0.0

    def changed() -> bool:
        """Two looks, as the thread does them."""
        nonlocal now
        before = live.runtime
        for _ in range(2):
            now += 1
            live.look(now=now)
        return live.runtime is not before

    assert not changed()
    secret.write_text("another-secret-9876543210\n")
    assert changed()
    assert not changed()
    secret.unlink()
    assert not changed()
    assert "cannot be read" in live.refused[0]
    secret.write_text("a-third-secret-0123456789\n")
    assert changed()


def test_a_file_that_is_still_being_written_is_waited_for(town: Town) -> None:
    live, file = town.broker.live, town.broker.config / "tenants" / "globex.yaml"
    for now, text in enumerate((GLOBEX[:40], GLOBEX[:80], GLOBEX + "languages: [en, de]\n"), start=1):
        file.write_text(text)
        live.look(now=now)
        assert live.refused == ()
    live.look(now=4)
    assert town.broker.tenant("globex").languages == ("en", "de")


def open_while(monkeypatch: pytest.MonkeyPatch, folder: Path, change: Callable[[], object]) -> closing[Live]:
    """A process that starts on this folder, and what changes when it has read it and not yet reached its stores."""
    open_engines = wiring.open_engines

    def slowly(*given: object, **named: object) -> wiring.Engines:
        change()
        return open_engines(*given, **named)

    monkeypatch.setattr(wiring, "open_engines", slowly)
    return closing(Live.open(folder))


def test_a_change_while_a_process_starts_is_found_by_its_looks(
    build_town: Callable[..., Town], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("upstream-secret-0123456789\n")
    folder = build_town(acme=ACME.replace("upstream-secret-0123456789", f"${{FILE:{secret}}}")).broker.config
    for change in (
        lambda: (folder / "tenants" / "globex.yaml").write_text(GLOBEX + "languages: [en, de]\n"),
        lambda: secret.write_text("another-secret-9876543210\n"),
    ):
        with open_while(monkeypatch, folder, change) as live:
            before = live.runtime
            for now in (1, 2):
                live.look(now=now)
            assert live.runtime is not before
            for now in (3, 4, 5):
                live.look(now=now)
            assert len(live._earlier) == 1


def test_a_bell_that_rings_while_a_process_starts_is_heard(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = {}
    bell.hang(environment)
    monkeypatch.setenv(RELOAD_BELL, environment[RELOAD_BELL])
    file = town.broker.config / "tenants" / "acme.yaml"

    def change() -> None:
        before = file.stat()
        file.write_text(file.read_text().replace("title: Contoso", "title: Cosonto"))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # a look finds no change
        bell.ring(environment)

    with open_while(monkeypatch, town.broker.config, change) as live:
        before = live.runtime
        live.look(now=0)
        assert live.runtime is not before
    for descriptor in inherited(environment):
        os.close(descriptor)


def test_a_folder_that_is_swapped_by_its_symbolic_link_is_found(
    build_town: Callable[..., Town], tmp_path: Path
) -> None:
    """As Kubernetes swaps a ConfigMap: `..data` is moved to another folder, and every file is a link through it."""
    town = build_town()
    folder = town.broker.config / "tenants"
    for name, yaml in (("one", ACME), ("two", TITLED)):
        (folder / f"..{name}").mkdir()
        (folder / f"..{name}" / "acme.yaml").write_text(yaml)
    (folder / "..data").symlink_to("..one")
    (folder / "acme.yaml").unlink()
    (folder / "acme.yaml").symlink_to("..data/acme.yaml")
    town.broker.live.reload()
    (folder / "..new").symlink_to("..two")
    (folder / "..new").replace(folder / "..data")
    before = town.broker.runtime
    for now in (1, 2):
        town.broker.live.look(now=now)
    assert town.broker.runtime is not before
    assert town.broker.tenant("acme").connections[1].title == "Contoso staff"


def test_egress_changes_without_a_restart(build_town: Callable[..., Town]) -> None:
    town = build_town()
    assert town.broker.write(
        (town.broker.config / "broker.yaml").read_text() + "egress: {allow: [10.0.0.0/8]}\n", "broker.yaml"
    )
    assert town.broker.runtime.settings.egress.allow == ("10.0.0.0/8",)
