"""The stories of the README in a real Chromium, from `homerealm demo` and its mailbox."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from broker.cli import main
from tests.browser.journeys.people import NEW, Demo, Window

pytestmark = pytest.mark.browser

SCRIPTS = pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
Open = Callable[..., Window]


@SCRIPTS
def test_sign_in_at_the_app(demo: Demo, open_window: Open, scripts: bool) -> None:
    window = open_window(java_script_enabled=scripts)
    window.open_app()
    window.sign_in("ada")
    window.is_at_the_app_as("ada@acme.example")
    assert urlsplit(window.page.url).query == ""


def test_a_wrong_password_says_so_and_is_not_kept(demo: Demo, window: Window) -> None:
    someone = demo.move_in("wanda")
    window.open_app()
    window.sign_in(someone.email, "not this one, I am afraid")
    alert = window.page.get_by_role("alert")
    alert.wait_for()
    assert window.page.title().startswith("Error: ")
    assert window.page.locator("input[autocomplete=current-password]").input_value() == ""
    window.type_password()
    window.is_at_the_app_as(someone.email)


@SCRIPTS
def test_forget_read_the_mail_reset_and_be_back_in_the_app(demo: Demo, open_window: Open, scripts: bool) -> None:
    someone = demo.move_in(f"frida{scripts:d}")
    window = open_window(java_script_enabled=scripts)
    window.open_app()
    window.forget(someone.username or "")
    window.arrive("login")
    window.page.get_by_text("We've just sent you an email to reset your password.").wait_for()
    window.read_mail(someone.email, "reset")
    window.open_link_of_mail()
    window.arrive("reset")
    assert "ticket" not in window.page.url, "the secret leaves the address at once"
    window.choose_password()
    window.is_at_the_app_as(someone.email)

    window.read_mail(someone.email, "password-changed")
    other = open_window(java_script_enabled=scripts)
    other.open_app()
    other.sign_in(someone.email, NEW)
    other.is_at_the_app_as(someone.email)


def test_a_refused_password_uses_nothing_up_and_a_used_link_says_so(demo: Demo, open_window: Open) -> None:
    someone = demo.move_in("rufus")
    window = open_window()
    window.open_app()
    window.forget(someone.email)
    window.read_mail(someone.email, "reset")
    window.open_link_of_mail()
    link = window.page.url
    window.choose_password("passwordpassword")
    window.page.get_by_role("alert").wait_for()
    window.choose_password()
    window.is_at_the_app_as(someone.email)

    window.read_mail(someone.email, "reset")
    window.open_link_of_mail()
    window.arrive("reset-link")
    assert window.page.url == link
    assert window.page.locator("input[type=password]").count() == 0


def test_a_mail_that_is_opened_in_another_browser_leads_home_as_well(demo: Demo, open_window: Open) -> None:
    someone = demo.move_in("olga")
    desk, phone = open_window(), open_window(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    desk.open_app()
    desk.forget(someone.email)
    desk.arrive("login")

    phone.read_mail(someone.email, "reset")
    phone.open_link_of_mail()
    phone.arrive("reset")
    phone.choose_password()
    phone.arrive("reset-done")
    phone.follow("Continue to Demo app")
    phone.is_at_the_app_as(someone.email)

    desk.sign_in(someone.email, NEW)
    desk.is_at_the_app_as(someone.email)


def test_who_signs_in_at_the_upstream_is_sent_to_its_own_reset_page_and_comes_back(demo: Demo, window: Window) -> None:
    someone = demo.move_in_upstream("carla")
    window.open_app()
    window.forget(someone.email)
    window.arrive("reset-elsewhere")
    here = window.page
    assert "Opens localhost in a new tab" in here.inner_text("main"), "the provider's real host name"
    with here.expect_popup() as opened:
        window.follow("Reset it at Contoso")

    window.page = opened.value
    assert window.page.url.startswith(demo.addresses.upstream)
    window.arrive("forgot")
    window.type_identifier(someone.email)
    window.arrive("login")
    window.read_mail(someone.email, "reset")
    window.open_link_of_mail()
    window.arrive("reset")
    assert window.page.url.startswith(demo.addresses.upstream)
    window.choose_password()
    window.arrive("login")
    window.page.get_by_text("Your password was changed.").wait_for()
    window.page.close()

    window.page = here
    window.press("Continue with Contoso")
    window.arrive("login")
    assert window.page.url.startswith(demo.addresses.upstream)
    window.sign_in(someone.email, NEW)
    window.is_at_the_app_as(someone.email)


def test_a_federated_user_is_told_by_mail_where_the_password_is(demo: Demo, open_window: Open) -> None:
    """Nothing that everybody may know says where this address signs in, so no page can say it: the mail does."""
    someone = demo.move_in_upstream("maria", domain="maria.example")
    first, later = open_window(), open_window()
    first.open_app("Straight to Contoso")
    first.sign_in(someone.email)
    first.is_at_the_app_as(someone.email)

    later.open_app()
    later.forget(someone.email)
    later.arrive("login")
    later.page.get_by_text("We've just sent you an email to reset your password.").wait_for()
    later.read_mail(someone.email, "reset-elsewhere")
    later.open_link_of_mail()
    later.arrive("reset-elsewhere")
    later.press("Continue with Contoso")
    later.sign_in(someone.email)
    later.is_at_the_app_as(someone.email)


def test_sign_out_at_the_app_signs_out_upstream_as_well(demo: Demo, window: Window) -> None:
    someone = demo.move_in_upstream("ute")
    window.open_app("Straight to Contoso")
    window.sign_in(someone.email)
    window.is_at_the_app_as(someone.email)
    window.follow("Sign out")
    window.arrive("app")
    assert window.page.url == f"{demo.app}/bye"

    window.open_app("Straight to Contoso")
    window.arrive("login")
    assert window.page.url.startswith(demo.addresses.upstream), "nobody is signed in there any more"


def test_sign_out_ends_the_session_at_the_broker(demo: Demo, window: Window) -> None:
    window.open_app()
    window.sign_in("ada")
    window.is_at_the_app_as("ada@acme.example")
    window.page.goto(f"{demo.app}/login/acme")
    window.is_at_the_app_as("ada@acme.example")
    window.follow("Sign out")
    window.arrive("app")
    window.open_app()
    window.arrive("login")


def test_the_address_alone_signs_out_and_says_so(demo: Demo, window: Window) -> None:
    window.open_app()
    window.sign_in("ada")
    window.is_at_the_app_as("ada@acme.example")
    window.page.goto(f"{demo.acme}/end-session")
    window.arrive("signout-done")
    window.page.goto(f"{demo.acme}/account")
    window.arrive("login")


def test_the_support_desk_sends_a_reset(demo: Demo, open_window: Open) -> None:
    someone = demo.move_in("paula")
    grace, paula = open_window(), open_window()
    find_at_the_desk(grace, someone.username or "")
    grace.page.locator("summary", has_text="More").click()
    grace.press("Send a password reset")
    grace.page.get_by_text("The email to reset the password is on its way.").wait_for()

    paula.read_mail(someone.email, "reset")
    paula.open_link_of_mail()
    paula.arrive("reset")
    paula.choose_password()
    paula.page.wait_for_load_state()
    paula.open_app()
    if paula.name == "login":
        paula.sign_in(someone.email, NEW)
    paula.is_at_the_app_as(someone.email)


def test_the_support_desk_sets_a_password_that_must_be_changed(demo: Demo, open_window: Open) -> None:
    someone = demo.move_in("peter")
    temporary = "seven wooden spoons in June"
    grace, peter = open_window(), open_window()
    find_at_the_desk(grace, someone.username or "")
    grace.page.locator("summary", has_text="More").click()
    grace.follow("Set a password")
    grace.arrive("admin-confirm")
    grace.type_password()
    grace.arrive("admin-set-password")
    grace.choose_password(temporary)
    grace.page.get_by_text("It must be changed at the next sign-in").wait_for()

    peter.read_mail(someone.email, "password-set-by-admin")
    peter.open_app()
    peter.sign_in(someone.email, temporary)
    peter.arrive("must-change")
    if (asked := peter.page.locator("input[autocomplete=current-password]")).count():
        asked.fill(temporary)
    peter.choose_password()
    peter.is_at_the_app_as(someone.email)


def find_at_the_desk(grace: Window, username: str) -> None:
    grace.page.goto(f"{grace.demo.acme}/admin")
    grace.sign_in("grace@acme.example")
    grace.arrive("admin-users")
    grace.page.get_by_role("searchbox").fill(username)
    grace.press("Search")
    grace.follow(username)
    grace.arrive("admin-user")


def test_a_login_link_of_the_command_line(demo: Demo, window: Window) -> None:
    someone = demo.move_in("linda")
    command = ["user", "login-link", someone.username or "", "--tenant", "acme", "--config", str(demo.config)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    window.page.goto(done.stdout.strip())
    window.arrive("reset")
    window.choose_password()
    window.arrive("account")
    assert someone.email in window.page.inner_text("main")


def test_globex_asks_for_consent_and_lets_its_people_sign_in_after_a_reset(demo: Demo, open_window: Open) -> None:
    someone = demo.move_in("lars", "globex")
    window = open_window()
    window.open_app("Sign in at Globex")
    window.forget(someone.username or "")
    window.arrive("login")
    window.read_mail(someone.email, "reset")
    window.open_link_of_mail()
    window.arrive("reset")
    window.choose_password()
    # reset.after: sign_in_page. The login of the app goes on, its identifier is filled in.
    window.page.get_by_text("Your password was changed.").wait_for()
    if window.name == "login":
        assert window.page.locator("input[autocomplete~=username]").input_value() == someone.username
        window.press("Continue")
    window.arrive("password")
    window.type_password(NEW)
    window.arrive("consent")
    window.press("Allow")
    window.is_at_the_app_as(someone.email)

    again = open_window()
    again.open_app("Sign in at Globex")
    again.sign_in(someone.username or "", NEW)
    again.is_at_the_app_as(someone.email)


def test_who_does_not_consent_goes_back_to_the_app_which_says_so(demo: Demo, window: Window) -> None:
    someone = demo.move_in("nora", "globex")
    window.open_app("Sign in at Globex")
    window.sign_in(someone.username or "")
    window.arrive("consent")
    window.press("Don't allow")
    window.arrive("problem")
    assert "access_denied" in window.page.inner_text("main")


def test_what_was_typed_beside_a_forgotten_password_goes_along(window: Window) -> None:
    """Globex asks for both on one page; the link there is pressed after the identifier was typed."""
    window.open_app("Sign in at Globex")
    window.arrive("login")
    assert hints(window) == [("text", "username webauthn"), ("password", "current-password")]
    window.page.locator("input[autocomplete~=username]").fill("gustav@globex.test")
    window.page.locator("input[autocomplete=current-password]").fill("some words that I do not remember")
    window.follow("Don't remember your password?")
    window.arrive("forgot")
    assert window.page.locator("input[autocomplete=username]").input_value() == "gustav@globex.test"
    assert window.blocked == []


def test_password_managers_find_their_way(demo: Demo, window: Window) -> None:
    someone = demo.move_in("manfred")
    window.open_app()
    window.arrive("login")
    assert hints(window) == [("text", "username webauthn")]
    window.type_identifier(someone.email)
    window.arrive("password")
    assert hints(window) == [("text", "username"), ("password", "current-password")]
    assert window.page.locator("input[autocomplete=username]").input_value() == someone.email
    window.follow("Don't remember your password?")
    window.arrive("forgot")
    assert hints(window) == [("text", "username")]
    assert window.page.locator("input[autocomplete=username]").input_value() == someone.email
    window.press("Send the email")
    window.arrive("login")
    window.read_mail(someone.email, "reset")
    window.open_link_of_mail()
    window.arrive("reset")
    assert hints(window) == [("text", "username"), ("password", "new-password")]
    assert window.page.locator("input[autocomplete=new-password]").get_attribute("passwordrules")

    window.page.goto(f"{demo.addresses.broker}/.well-known/change-password")
    window.page.wait_for_load_state()
    assert window.name in ("forgot", "choose-tenant"), "where password managers send people"


def hints(window: Window) -> list[tuple[str, str]]:
    """Kind and autocomplete of every field that somebody could fill in."""
    found = window.page.eval_on_selector_all(
        "main input:not([type=hidden]):not([type=checkbox])",
        "all => all.map(one => [one.type, one.getAttribute('autocomplete')])",
    )
    return [(kind, hint) for kind, hint in found]
