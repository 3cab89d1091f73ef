"""Auth0's "How to Reset Auth0 Account Passwords", sentence by sentence."""

from __future__ import annotations

from broker.testing.town import PASSWORD, Town
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


def test_you_can_reset_the_password_at_any_time_by_invoking_the_password_reset_flow(town: Town) -> None:
    """ "You can reset the password associated with your Auth0 account at any time by invoking the password reset
    flow." """
    browser = town.browser()
    forget(open_app(browser), "ada@acme.test")
    form = browser.go(reset_link(town, "ada@acme.test"))
    assert form.data_page == "reset"
    assert at_the_app(choose_password(form), "ada@acme.test")
    assert at_the_app(sign_in(town.browser(), "ada@acme.test", NEW), "ada@acme.test")
    refused = sign_in(town.browser(), "ada@acme.test", PASSWORD)
    assert refused.data_page == "password"
    assert refused.status == 422


def test_if_already_logged_in_select_logout(town: Town) -> None:
    """ "If you are already logged in to your Auth0 account, click on your username in the top right corner. Select
    Logout." """
    browser = town.browser()
    sign_in(browser, "ada")
    account = browser.go(f"{town.broker.base}/t/acme/account")
    assert account.data_page == "account"
    assert "ada" in account.text
    left = account.form(action="/end-session").submit()
    assert left.data_page == "signout-done"
    again = browser.go(f"{town.broker.base}/t/acme/account")
    assert again.data_page == "login"


def test_the_login_screen_has_the_link(town: Town) -> None:
    """ "When you see the log in screen, click **Don't remember your password?**" """
    page = open_app(town.browser())
    assert page.data_page == "login"
    assert page.click("Don't remember your password?").data_page == "forgot"


def test_you_will_receive_an_email_with_further_instructions(town: Town) -> None:
    """ "Provide your email address and click the **right arrow** to submit. You will receive an email that provides
    further instructions on resetting your password." """
    forget(open_app(town.browser()), "ada@acme.test")
    mail = town.mail().last("ada@acme.test", "reset")
    assert "ada" in mail.text
    assert len([link for link in mail.links if "ticket=" in link]) == 1


def test_directed_back_to_the_log_in_screen_with_a_message(town: Town) -> None:
    """ "If your request was successfully received, you'll be directed back to the log in screen with a message that
    says, "We've just sent you an email to reset your password." " """
    page = forget(open_app(town.browser()), "ada@acme.test")
    assert page.data_page == "login"
    assert "We've just sent you an email to reset your password." in page.text


def test_contact_support_about_multi_factor_is_the_same_text_for_everybody(town: Town) -> None:
    """ "If you have enabled multi-factor authentication and you need your account reset, please contact Support." """
    page = open_app(town.browser()).click("Don't remember your password?")
    assert "second step" in page.text
    assert any("acme.test/help" in link.href for link in page.links)


def test_only_a_database_connection_resets_here(town: Town) -> None:
    """ "You can only reset your password when using a database connection. If you are using a social or enterprise
    connection, you will need to reset your password with the appropriate social identity provider." """
    page = forget(open_app(town.browser()), "carol@contoso.test")
    assert page.data_page == "reset-elsewhere"
    assert "contoso.test" in page.text
    assert any(link.href.startswith("https://contoso.test/t/contoso/forgot") for link in page.links)
    town.broker.work()
    assert town.broker.mailbox.all() == []


def test_the_whole_promise_for_somebody_of_an_enterprise_connection(town: Town) -> None:
    """Sent to the provider's own reset page, reset there, and back in the app, signed in."""
    browser = town.browser()
    page = forget(open_app(browser), "carol@contoso.test")
    elsewhere = page.url
    there = page.click("Contoso")
    assert there.url.startswith("https://contoso.test/")
    type_identifier(there, "carol@contoso.test")
    town.upstream.work()
    link = town.upstream.mailbox.last("carol@contoso.test", "reset").link("/reset?ticket=")
    choose_password(browser.go(link))
    back = browser.go(elsewhere)
    assert back.data_page == "reset-elsewhere"
    at_contoso = back.form(button="Continue with Contoso").submit()
    assert at_contoso.url.startswith("https://contoso.test/")
    if at_contoso.data_page == "login":
        at_contoso = type_identifier(at_contoso, "carol@contoso.test")
    assert at_the_app(type_password(at_contoso, NEW), "carol@contoso.test")
