"""TextUp's "Resetting password", sentence by sentence."""

from __future__ import annotations

from broker.testing.page import Page
from broker.testing.town import PASSWORD, Town
from broker.testing.world import Browser
from tests.stories.journeys import (
    NEW,
    at_the_app,
    choose_password,
    forget,
    open_app,
    reset_link,
    sign_in,
    type_identifier,
    type_password,
)


def test_type_in_your_username_and_the_mail_goes_to_the_associated_address(town: Town) -> None:
    """ "Type in your username. If TextUp can find an account that matches the provided username, TextUp will send an
    email to the address associated with that account with a reset link." """
    page = forget(open_app(town.browser()), "ada")
    assert "ada@acme.test" not in page.text
    assert town.mail().last("ada@acme.test", "reset").link("/reset?ticket=")
    before = len(town.broker.mailbox.all())
    forget(open_app(town.browser()), "nobody")
    assert len(town.mail().all()) == before


def test_return_to_the_login_page_to_log_in_with_your_new_credentials(town: Town) -> None:
    """ "Type in a new password. Then, return to the login page to log in with your new credentials." """
    town.broker.add("globex", email="linus@globex.test", username="linus")
    browser = town.browser()
    forget(open_app(browser, "globex"), "linus")
    page = choose_password(browser.go(reset_link(town, "linus@globex.test")))
    assert page.data_page == "login"
    assert "Your password was changed" in page.text
    assert page.form(field="username").field("username").value == "linus"
    consent = type_password(page.form(field="username").submit(), NEW)
    assert consent.data_page == "consent"
    assert at_the_app(consent.form(field="decision").submit(), "linus@globex.test")


def admin_at(browser: Browser, town: Town, identifier: str = "ada") -> Page:
    """Grace signs in to the support desk and opens a user's page."""
    page = browser.go(f"{town.broker.base}/t/acme/admin")
    page = type_password(type_identifier(page, "grace"))
    assert page.data_page == "admin-users"
    found = page.form(field="q").fill(q=identifier).submit()
    return found.click("ada")


def test_admins_reset_a_password_by_first_authenticating_with_their_own(town: Town) -> None:
    """ "Admins may reset any user's password by first authenticating with **their own password** then typing in a new
    password for that particular user." """
    ada_is_signed_in = town.browser()
    sign_in(ada_is_signed_in, "ada")
    browser = town.browser()
    page = admin_at(browser, town)
    confirm = page.click("Set a password")
    assert confirm.data_page == "admin-confirm"
    wrong = confirm.form(field="current-password").fill({"current-password": "michelle's own password"}).submit()
    assert wrong.data_page == "admin-confirm"
    form = wrong.form(field="current-password").fill({"current-password": PASSWORD}).submit()
    assert form.data_page == "admin-set-password"
    done = form.form(field="new-password").fill({"new-password": "temporary words for you"}).submit()
    assert done.data_page == "admin-user"
    assert ada_is_signed_in.go(f"{town.broker.base}/t/acme/account").data_page == "login"
    assert town.mail().last("ada@acme.test", "password-set-by-admin")
    # It must be changed at the next sign-in.
    must = sign_in(town.browser(), "ada", "temporary words for you")
    assert must.data_page == "must-change"
    filled = must.form(field="new-password").fill({"current-password": "temporary words for you", "new-password": NEW})
    assert at_the_app(filled.submit(), "ada@acme.test")


def test_the_confirmation_is_fresh_for_five_minutes(town: Town) -> None:
    browser = town.browser()
    page = admin_at(browser, town)
    form = page.click("Set a password").form(field="current-password").fill({"current-password": PASSWORD}).submit()
    town.later(minutes=5, seconds=1)
    late = form.form(field="new-password").fill({"new-password": "temporary words for you"}).submit()
    assert late.data_page == "admin-confirm"
    assert at_the_app(sign_in(town.browser(), "ada", PASSWORD), "ada@acme.test")


def test_the_more_menu_sends_a_password_reset(town: Town) -> None:
    """ "On the user details page in the admin dashboard, open the **More** menu to reveal an option to send a password
    reset to the email address associated with this account." """
    browser = town.browser()
    page = admin_at(browser, town)
    assert "More" in page.text
    sent = page.form(action="/send-reset").submit()
    assert sent.data_page == "admin-user"
    link = reset_link(town, "ada@acme.test")
    done = choose_password(town.browser().go(link))
    assert done.data_page == "reset-done"
    assert at_the_app(sign_in(town.browser(), "ada", NEW), "ada@acme.test")


def test_somebody_who_is_no_admin_gets_nowhere(town: Town) -> None:
    browser = town.browser()
    sign_in(browser, "ada")
    page = browser.go(f"{town.broker.base}/t/acme/admin/users")
    assert page.status == 403
    assert page.data_code == "desk.not_admin"
