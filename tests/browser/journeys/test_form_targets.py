"""A form POST that is answered by redirects across origins.

Chromium and WebKit check every hop of such a chain against `form-action`, Firefox and Flask's test client check none:
with `'self'` alone people press Continue and nothing happens.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Route

from tests.browser.journeys.people import Demo, Window
from tests.browser.journeys.strangers import STRANGERS, Strangers

pytestmark = pytest.mark.browser
Open = Callable[..., Window]
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"  # RFC 7636, appendix B


def begin(window: Window, strangers: Strangers, client: str) -> None:
    request = {
        "client_id": client, "redirect_uri": strangers.callback(client), "response_type": "code", "scope": "openid",
        "state": "s", "code_challenge": CHALLENGE, "code_challenge_method": "S256",
    }  # fmt: skip
    window.page.goto(f"{window.demo.acme}/authorize?{urlencode(request)}")


@pytest.mark.parametrize("client", STRANGERS)
def test_a_form_may_lead_to_an_app_that_leads_on_to_another_origin(
    demo: Demo, open_window: Open, strangers: Strangers, client: str
) -> None:
    window = open_window(ignore_https_errors=True)
    begin(window, strangers, client)
    window.sign_in("ada")
    window.arrive("landed")
    assert window.page.inner_text("body") == "with code"


def test_this_check_sees_a_form_that_is_blocked(demo: Demo, open_window: Open, strangers: Strangers) -> None:
    """The same with the policy that everybody writes first: it must fail, or the check above proves nothing."""
    window = open_window(ignore_https_errors=True)

    def strict(route: Route) -> None:
        response = route.fetch(max_redirects=0)
        headers = response.headers
        policy = headers.get("content-security-policy", "")
        headers["content-security-policy"] = re.sub("form-action [^;]*", "form-action 'self'", policy)
        route.fulfill(response=response, headers=headers)

    begin(window, strangers, "shop")
    window.arrive("login")
    window.type_identifier("ada")
    window.arrive("password")
    window.page.route(f"{demo.acme}/login/password*", strict, times=1)
    window.page.reload()
    with window.page.expect_console_message(lambda message: "form-action" in message.text):
        window.type_password()
    assert window.blocked
    assert window.name == "password", "nothing happens"
    window.complaints.clear()
