"""Google, Microsoft and GitHub, each against a stand-in in the provider's documented format."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from pydantic import ValidationError

from broker.core.connection import Hint, ResetHow
from broker.testing.contracts.connection import refusal
from broker.testing.contracts.redirect_sign_in import RETURN_URL, STATE
from broker.testing.upstreams.entra import OTHER_TENANT, TENANT
from tests.connections import cases


def query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


@pytest.mark.parametrize(
    ("case", "title", "url"),
    [
        (cases.google, "Google", "https://accounts.google.com/signin/recovery"),
        (cases.github, "GitHub", "https://github.com/password_reset"),
    ],
)
def test_a_forgotten_password_leads_to_the_providers_own_page(case: Any, title: str, url: str) -> None:
    connection = case().make()
    page = connection.reset_page("ada@acme.test")
    assert (connection.title, page.provider, page.how, page.url) == (title, title, ResetHow.DEEP_LINK, url)


def test_microsofts_reset_page_is_told_the_name_only_where_the_connection_opts_in() -> None:
    """CONTRACT 3. `username` is what Microsoft's own sign-in page sends there."""
    case = cases.microsoft()
    assert case.make().reset_page("ada@contoso.test").url == "https://passwordreset.microsoftonline.com/"
    page = case.make(reset={"how": "deep_link", "hint_parameter": "username"}).reset_page("ada@contoso.test")
    assert page.url == "https://passwordreset.microsoftonline.com/?username=ada%40contoso.test"
    assert case.make().reset_page(None).url == "https://passwordreset.microsoftonline.com/"
    assert case.browser.go(page.url).title == "Reset your Microsoft password"
    assert case.stand_in.resets == [{"username": "ada@contoso.test"}]


def test_the_name_on_the_page_is_the_providers_even_when_the_button_says_another() -> None:
    connection = cases.google().make(title="Acme staff")
    assert (connection.title, connection.reset_page(None).provider) == ("Acme staff", "Google")


# --- Google -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "verified"),
    [
        ({"email": "ada@acme.test", "hd": "acme.test", "email_verified": True}, True),
        ({"email": "ada@gmail.com", "hd": None, "email_verified": True}, True),
        ({"email": "ada@GMAIL.com", "hd": None, "email_verified": True}, True),
        ({"email": "ada@elsewhere.test", "hd": None, "email_verified": True}, False),
        ({"email": "ada@elsewhere.test", "hd": "acme.test", "email_verified": True}, False),
        ({"email": "ada@gmail.com.evil.test", "hd": None, "email_verified": True}, False),
        ({"email": "ada@acme.test", "hd": "acme.test", "email_verified": False}, False),
        ({"email": "ada@acme.test", "hd": "acme.test", "email_verified": None}, False),
        ({"email": "ada@", "hd": "", "email_verified": True}, False),
    ],
    ids=str,
)
def test_google_vouches_for_its_own_mailboxes_only(claims: dict[str, Any], verified: bool) -> None:
    case = cases.google()
    case.openid.people["ada"].claims = {k: v for k, v in claims.items() if v is not None}
    assert case.sign_in(case.make()).email_verified is verified


def test_google_is_asked_in_its_own_words() -> None:
    connection = cases.google().make(hosted_domain="acme.test")
    hint = Hint("ada@acme.test", force_login=True, max_age=5, language="de")
    sent = query(connection.depart(STATE, RETURN_URL, hint).url)
    assert (sent["prompt"], sent["hd"], sent["login_hint"], sent["hl"]) == (
        "select_account", "acme.test", "ada@acme.test", "de",
    )  # fmt: skip
    assert "max_age" not in sent


def test_a_hosted_domain_is_checked_in_the_claims_and_not_only_asked_for() -> None:
    case = cases.google(hosted_domain="acme.test")
    assert case.sign_in(case.make()).claims["name"] == "Ada Lovelace"
    for hd in (None, "evil.test", ["acme.test"], "acme.test.evil.test"):
        case.openid.change_claims = lambda claims, hd=hd: {**claims, "hd": hd}
        with refusal("connection.unknown_user"):
            case.sign_in(case.make())


def test_a_fresh_login_at_google_works_as_far_as_it_goes() -> None:
    case = cases.google()
    assert case.sign_in(case.make(), Hint(force_login=True)).subject == case.subject


@pytest.mark.parametrize("domain", ["*.acme.test", "Acme.test", "acme", "a@b.test", ""])
def test_a_hosted_domain_is_one_domain(domain: str) -> None:
    with pytest.raises(ValidationError):
        cases.google(hosted_domain=domain).make()


# --- Microsoft Entra ID -----------------------------------------------------------------------------------------------


def test_people_of_many_tenants_sign_in_each_under_their_own_issuer() -> None:
    case = cases.microsoft()
    first = case.sign_in(case.make())
    case.openid.people["ada"].claims["tid"] = OTHER_TENANT
    other = case.sign_in(case.make())
    assert (first.issuer, other.issuer) == (
        f"https://login.microsoftonline.com/{TENANT}/v2.0",
        f"https://login.microsoftonline.com/{OTHER_TENANT}/v2.0",
    )
    assert (first.subject, other.subject) == (f"{TENANT}:{cases.OID}", f"{OTHER_TENANT}:{cases.OID}")


def test_only_tenants_on_the_list_are_let_in() -> None:
    case = cases.microsoft(tenants=[TENANT])
    assert case.sign_in(case.make()).subject == case.subject
    case.openid.people["ada"].claims["tid"] = OTHER_TENANT
    with refusal("connection.unknown_user"):
        case.sign_in(case.make())


@pytest.mark.parametrize(
    "tid", [None, "", "common", "{tenantid}", "../evil", TENANT.upper(), f"{TENANT}/x", "evil.test/v2.0#", [TENANT]]
)
def test_a_tenant_that_is_no_tenant_is_refused(tid: Any) -> None:
    case = cases.microsoft()
    case.openid.change_claims = lambda claims: {
        **claims, "tid": tid, "iss": f"https://login.microsoftonline.com/{tid}/v2.0",
    }  # fmt: skip
    with refusal():
        case.sign_in(case.make())


def test_a_token_whose_tenant_and_issuer_differ_is_refused() -> None:
    for audience in ("organizations", "common", TENANT):
        case = cases.microsoft(audience)
        case.openid.change_claims = lambda claims: {**claims, "tid": OTHER_TENANT}
        with refusal():
            case.sign_in(case.make())


@pytest.mark.parametrize("audience", ["organizations", "common"])
def test_another_cloud_or_a_lookalike_is_not_the_issuer(audience: str) -> None:
    case = cases.microsoft(audience)
    for iss in (f"https://login.microsoftonline.us/{TENANT}/v2.0", f"https://login.microsoftonline.com/{TENANT}/",
                "https://login.microsoftonline.com/{tenantid}/v2.0"):  # fmt: skip
        case.openid.change_claims = lambda claims, iss=iss: {**claims, "iss": iss}
        with refusal():
            case.sign_in(case.make())


def test_a_connection_for_one_tenant_lets_no_other_in() -> None:
    case = cases.microsoft(TENANT)
    assert case.sign_in(case.make()).subject == case.subject
    case.openid.people["ada"].claims["tid"] = OTHER_TENANT
    with refusal():
        case.sign_in(case.make())


@pytest.mark.parametrize("oid", [None, "", 7])
def test_a_token_without_oid_names_nobody(oid: Any) -> None:
    case = cases.microsoft()
    case.openid.people["ada"].claims["oid"] = oid
    with refusal():
        case.sign_in(case.make())


@pytest.mark.parametrize(
    ("audience", "edov", "verified"),
    [
        ("organizations", None, False), ("organizations", "1", True), ("organizations", True, True),
        ("organizations", "0", False), ("organizations", False, False), ("organizations", ["1"], False),
        ("common", "1", False), ("common", True, False), (TENANT, "1", True), (TENANT, None, False),
    ],
)  # fmt: skip
def test_an_address_from_entra_is_verified_by_its_domains_owner_or_not_at_all(
    audience: str, edov: Any, verified: bool
) -> None:
    case = cases.microsoft(audience)
    case.openid.people["ada"].claims |= {"xms_edov": edov, "email_verified": True}
    assert case.sign_in(case.make()).email_verified is verified


def test_microsoft_is_asked_for_one_prompt_at_a_time() -> None:
    case = cases.microsoft()
    assert case.sign_in(case.make(), Hint(force_login=True, select_account=True)).subject == case.subject


# --- GitHub -----------------------------------------------------------------------------------------------------------


def test_githubs_address_is_the_primary_one_of_the_second_call() -> None:
    case = cases.github()
    identity = case.sign_in(case.make())
    assert (identity.email, identity.email_verified) == ("octocat@acme.test", True)
    assert [url for method, url in case.bench.fetcher.asked if method == "GET"] == [
        "https://api.github.com/user", "https://api.github.com/user/emails",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("emails", "email", "verified"),
    [
        ([], None, False),
        ([{"email": "a@acme.test", "primary": True, "verified": False}], "a@acme.test", False),
        ([{"email": "a@acme.test", "primary": False, "verified": True}], "a@acme.test", True),
        ([{"email": "a@acme.test", "primary": False, "verified": False}], None, False),
        ([{"email": "a@acme.test", "primary": "true", "verified": "true"}], None, False),
        ([{"email": None, "primary": True, "verified": True}], None, False),
        (["a@acme.test", 7, None], None, False),
        ({"email": "a@acme.test"}, None, False),
    ],
    ids=str,
)
def test_the_public_profile_is_never_taken_for_an_address(emails: Any, email: str | None, verified: bool) -> None:
    case = cases.github()
    case.stand_in.people["ada"].claims["emails"] = emails
    identity = case.sign_in(case.make())
    assert (identity.email, identity.email_verified) == (email, verified)


def test_a_renamed_login_is_the_same_person() -> None:
    case = cases.github()
    case.stand_in.people["ada"].claims["login"] = "monalisa"
    identity = case.sign_in(case.make())
    assert (identity.subject, identity.claims["preferred_username"]) == ("583231", "monalisa")
    assert identity.claims["picture"] == "https://avatars.githubusercontent.com/u/583231?v=4"


def test_without_the_scope_for_addresses_our_registration_is_wrong() -> None:
    case = cases.github(scope="read:user")
    connection = case.make()
    with refusal("connection.misconfigured"):
        case.sign_in(connection)


def test_an_enterprise_server_has_everything_on_its_own_host() -> None:
    case = cases.github("github.acme.test")
    connection = case.make()
    identity = case.sign_in(connection)
    assert identity.issuer == "https://github.acme.test"
    assert connection.reset_page(None).url == "https://github.acme.test/password_reset"
    assert {urlsplit(url).netloc for _, url in case.bench.fetcher.asked} == {"github.acme.test"}
    assert cases.github().make(host="acme.ghe.com").endpoints().userinfo == "https://api.acme.ghe.com/user"


@pytest.mark.parametrize("host", ["https://github.acme.test", "github.acme.test/x", "a@b", "", "GitHub.com"])
def test_a_host_is_a_host(host: str) -> None:
    with pytest.raises(ValidationError):
        cases.github().make(host=host)


# --- OAuth 2.0 in general ---------------------------------------------------------------------------------------------


def test_a_subject_may_lie_deeper_in_the_answer() -> None:
    case = cases.oauth2(subject="plan.id", emails_endpoint=None, claims={"nickname": "plan.name"})
    case.stand_in.people["ada"].claims |= {"plan": {"id": 4711, "name": "Medium"}}
    identity = case.sign_in(case.make())
    assert (identity.subject, identity.claims["nickname"]) == ("4711", "Medium")
    assert identity.email == "public@github.test"
    assert identity.email_verified is False


@pytest.mark.parametrize("subject", [None, "", True, ["1"], {"id": 1}, "x" * 256, "a\nb"])
def test_an_answer_that_names_nobody_lets_nobody_in(subject: Any) -> None:
    case = cases.oauth2(subject="who", emails_endpoint=None)
    case.stand_in.people["ada"].claims["who"] = subject
    with refusal():
        case.sign_in(case.make())


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "userinfo_endpoint"])
def test_without_its_endpoints_a_provider_cannot_be_found(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        cases.oauth2().make(**{name: None})


def test_a_reset_that_takes_an_openid_request_is_for_openid_providers() -> None:
    with pytest.raises(ValidationError, match="OpenID providers only"):
        cases.oauth2().make(reset={"how": "oidc_forgot", "url": "https://git.upstream.test/forgot"})
