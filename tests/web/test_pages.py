"""Every page in every state, as its HTML: what PAGES and CONTRACT 5 promise and no picture shows."""

from __future__ import annotations

import gzip
import re
from dataclasses import fields, is_dataclass, replace
from datetime import datetime
from html.parser import HTMLParser

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg

from broker import resources
from broker.testing.pages import Sample, samples
from broker.testing.pseudo import Pseudo
from broker.web import pages, pages_account, pages_desk, pages_error, pages_recovery
from broker.web.assets import Assets
from broker.web.pages import Page
from broker.web.render import Renderer

ASSETS = Assets(resources.templates() / "static")
RENDERER = Renderer(resources.templates(), ASSETS)
SAMPLES = tuple(samples())
VOID = {"meta", "link", "input", "img", "br", "path"}

FORMS = {
    "login": "/login",
    "connection": "/login/connection",
    "other": "/login/other",
    "cancel": "/login/cancel",
    "password": "/login/password",
    "select-account": "/login/account",
    "must-change": "/login/must-change",
    "signup": "/signup",
    "consent": "/consent",
    "sign-out": "/end-session",
    "forgot": "/forgot",
    "resend": "/forgot",
    "reset-elsewhere": "/reset-elsewhere",
    "reset": "/reset",
    "session": "/account/sessions",
    "sessions": "/account/sessions/others",
    "account-password": "/account/password",
    "admin-confirm": "/admin/confirm",
    "admin-set-password": "/admin/users/<id>/set-password",
    "admin-send-reset": "/admin/users/<id>/send-reset",
    "admin-login-link": "/admin/users/<id>/login-link",
    "admin-sign-out": "/admin/users/<id>/sign-out",
    "admin-block": "/admin/users/<id>/block",
    "admin-unblock": "/admin/users/<id>/unblock",
}
"""The name that a form's CSRF value is bound to, and where it is sent: what views and templates must agree on."""


class Element:
    def __init__(self, tag: str, attributes: dict[str, str], parents: tuple[Element, ...]) -> None:
        self.tag, self.attributes, self.parents = tag, attributes, parents
        self.text = ""

    def get(self, name: str) -> str:
        return self.attributes.get(name, "")

    def __repr__(self) -> str:
        return f"<{self.tag} {self.attributes}>"


class Document(HTMLParser):
    """Elements in order, each with its attributes, its ancestors and the text within it. Raises on bad nesting."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.text = ""
        self._open: list[Element] = []
        self.feed(html)
        self.close()
        if self._open:
            raise ValueError(f"not closed: {self._open}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            raise ValueError(f"an attribute twice: {tag} {names}")
        element = Element(tag, {name: value or "" for name, value in attrs}, tuple(self._open))
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self._open or self._open[-1].tag != tag:
            raise ValueError(f"</{tag}> closes {self._open[-1:]}")
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data
        self.text += f"{data} "

    def all(self, *tags: str) -> list[Element]:
        return [element for element in self.elements if element.tag in tags]


def drawn(sample: Sample) -> tuple[str, Document]:
    html = RENDERER.render(sample.page, sample.chrome)
    return html, Document(html)


@pytest.fixture(params=SAMPLES, ids=lambda sample: sample.name)
def sample(request: pytest.FixtureRequest) -> Sample:
    found: Sample = request.param
    return found


def test_the_names_of_the_samples_are_unique() -> None:
    assert len({one.name for one in SAMPLES}) == len(SAMPLES) > 150


def test_every_page_has_a_sample() -> None:
    modules = (pages, pages_account, pages_desk, pages_error, pages_recovery)
    kinds = {
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Page) and kind is not Page
    }
    assert kinds == {type(one.page) for one in SAMPLES}


def test_every_template_belongs_to_a_page() -> None:
    folder = resources.templates() / "pages"
    assert {f"pages/{path.name}" for path in folder.iterdir()} == {one.page.template for one in SAMPLES}


def test_a_page_has_one_heading_its_name_and_a_title_that_says_what_where_and_whose(sample: Sample) -> None:
    html, document = drawn(sample)
    (heading,) = document.all("h1")
    (title,) = document.all("title")
    (body,) = document.all("body")
    assert body.get("data-page") == sample.page.name
    whose = sample.chrome.app.name if sample.chrome.app else sample.chrome.tenant
    assert title.text.endswith(f"{heading.text.strip()} - {whose}")
    assert "\n" not in title.text
    assert html.startswith("<!DOCTYPE html>\n<html lang=")


def test_a_page_that_reports_an_error_says_so_in_its_title_first(sample: Sample) -> None:
    _, document = drawn(sample)
    failed = "There is a problem" in document.text or sample.page.name in ("error", "reset-link")
    assert document.all("title")[0].text.startswith("Error: ") is failed


def test_every_error_stands_in_the_summary_and_at_its_field(sample: Sample) -> None:
    _, document = drawn(sample)
    ids = {element.get("id") for element in document.elements}
    wrong = [element for element in document.elements if element.get("aria-invalid") == "true"]
    linked = [element.get("href")[1:] for element in document.all("a") if element.get("href").startswith("#")]
    assert sorted(linked) == sorted(element.get("id") for element in wrong)
    for element in wrong:
        assert f"{element.get('id')}-error" in element.get("aria-describedby").split()
    for element in document.elements:
        assert set(element.get("aria-describedby").split()) <= ids


def test_an_error_page_has_its_code_and_its_reference(sample: Sample) -> None:
    _, document = drawn(sample)
    code = getattr(sample.page, "code", "")
    assert document.all("body")[0].get("data-code") == code
    assert not code or sample.chrome.reference in document.text


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(sample: Sample) -> None:
    _, document = drawn(sample)
    for element in document.elements:
        assert element.tag not in ("style", "base", "iframe", "object")
        assert not [name for name in element.attributes if name == "style" or name.startswith("on")], element
        if element.tag == "script":
            assert not element.text
        for name in ("src", "srcset"):
            assert element.get(name).startswith("/static/") or not element.get(name)
        if element.tag == "link":
            assert element.get("href").startswith("/static/")
        assert not element.get("href").startswith(("javascript:", "data:"))


def test_ids_are_unique(sample: Sample) -> None:
    _, document = drawn(sample)
    ids = [element.get("id") for element in document.elements if element.get("id")]
    assert len(ids) == len(set(ids))


def test_every_field_has_a_visible_label_and_tells_the_browser_what_it_is_for(sample: Sample) -> None:
    _, document = drawn(sample)
    labels = {element.get("for"): element.text.strip() for element in document.all("label")}
    for field in document.all("input"):
        kind = field.get("type")
        if kind == "hidden":
            continue
        if "vh" in field.get("class").split():
            # The one field that only password managers see.
            assert field.get("name") == field.get("autocomplete") == "username"
            continue
        assert labels.get(field.get("id")), field
        if kind == "password":
            assert field.get("autocomplete") in ("current-password", "new-password")
            assert "value" not in field.attributes, "a password is never filled in by us"
        elif field.get("name") == "username":
            assert field.get("autocomplete") in ("username", "username webauthn")


def test_a_password_field_has_the_username_beside_it(sample: Sample) -> None:
    _, document = drawn(sample)
    for field in document.all("input"):
        if field.get("type") == "password":
            form = next(parent for parent in field.parents if parent.tag == "form")
            inside = [one for one in document.all("input") if form in one.parents]
            assert len([one for one in inside if one.get("autocomplete").startswith("username")]) == 1, field
            if field.get("autocomplete") == "new-password" and field.get("name") == "password":
                assert int(field.get("minlength")) > 0
                assert field.get("passwordrules").startswith(f"minlength: {field.get('minlength')};")


def test_every_form_is_protected_and_goes_where_the_views_wait_for_it(sample: Sample) -> None:
    _, document = drawn(sample)
    for form in document.all("form"):
        hidden = {
            one.get("name"): one.get("value")
            for one in document.all("input")
            if form in one.parents and one.get("type") == "hidden"
        }
        if form.get("method") == "get":
            assert hidden == {}
            continue
        assert form.get("method") == "post"
        token = hidden["csrf_token"]
        if token.startswith("csrf-of-"):
            address = re.sub(r"/u-\d/", "/<id>/", form.get("action"))
            assert address == sample.chrome.base + FORMS[token.removeprefix("csrf-of-")]
        assert hidden.get("tx", "") == sample.chrome.tx
        assert [one for one in document.all("button") if form in one.parents and one.get("type") == "submit"]


def test_every_form_is_drawn_somewhere() -> None:
    seen = {name for one in SAMPLES for name in re.findall(r'value="csrf-of-([a-z-]+)"', drawn(one)[0])}
    assert seen == set(FORMS)


def test_a_form_of_the_flow_never_carries_the_transaction_in_its_address(sample: Sample) -> None:
    # The views refuse a field that is in the address and in the form.
    _, document = drawn(sample)
    for form in document.all("form"):
        assert "?" not in form.get("action")


def test_links_within_the_flow_keep_the_transaction(sample: Sample) -> None:
    _, document = drawn(sample)
    if not sample.chrome.tx:
        return
    for link in document.all("a"):
        path, _, query = link.get("href").partition("?")
        if path in ("/t/acme/login", "/t/acme/forgot", "/t/acme/signup") and "sign" not in sample.name.split("/")[0]:
            assert query.split("&")[0] == f"tx={sample.chrome.tx}", link


@pytest.mark.parametrize("name", ["login/first-visit", "password/plain", "password/wrong", "login/mail-sent"])
def test_the_way_out_is_worded_exactly(name: str) -> None:
    html, _ = drawn(next(one for one in SAMPLES if one.name == name))
    assert ">Don't remember your password?</a>" in html


def test_the_answer_to_forgot_is_worded_exactly() -> None:
    html, document = drawn(next(one for one in SAMPLES if one.name == "login/mail-sent"))
    assert "We've just sent you an email to reset your password." in html
    assert "30 minutes" in document.text
    assert "no-reply@acme.example" in document.text


def test_allow_is_the_first_button_of_consent() -> None:
    _, document = drawn(next(one for one in SAMPLES if one.name == "consent/all-scopes"))
    assert [one.get("value") for one in document.all("button")] == ["allow", "deny"]


def test_five_connections_are_buttons_and_the_others_are_behind_more_ways() -> None:
    _, document = drawn(next(one for one in SAMPLES if one.name == "login/many-ways"))
    buttons = [one for one in document.all("button") if one.get("name") == "connection"]
    assert [any(parent.tag == "details" for parent in one.parents) for one in buttons] == [False] * 5 + [True] * 2


def test_what_a_refused_password_is_told_does_not_depend_on_the_account() -> None:
    wrong = next(one for one in SAMPLES if one.name == "password/wrong")
    html = RENDERER.render(wrong.page, wrong.chrome)
    assert RENDERER.render(replace(wrong.page, identifier="nobody"), wrong.chrome) == html.replace(  # type: ignore[type-var]
        "ada@acme.example", "nobody"
    )


# --- hostile values ----------------------------------------------------------------------------------------------

HOSTILE = "\"'><script>alert(1)</script>{{ 7*7 }}"


def poisoned(value: object) -> object:
    """The same value with every text in it replaced, however deep; enumerations, addresses and ids stay."""
    if isinstance(value, str) and type(value) is str:
        return value if value.startswith(("/", "https://")) else value + HOSTILE
    if isinstance(value, tuple):
        return tuple(poisoned(one) for one in value)
    if is_dataclass(value) and not isinstance(value, type | datetime):
        return replace(value, **{one.name: poisoned(getattr(value, one.name)) for one in fields(value) if one.init})
    return value


def test_no_value_becomes_markup(sample: Sample) -> None:
    page = poisoned(sample.page)
    chrome = replace(sample.chrome, tenant=HOSTILE, environment=HOSTILE, reference=HOSTILE, support_email=HOSTILE)
    html = RENDERER.render(page, chrome)  # type: ignore[arg-type]
    assert "<script>" not in html
    assert "49" not in html
    document = Document(html)
    assert len(document.all("script")) == 1
    for element in document.elements:
        assert not [name for name in element.attributes if not re.fullmatch(r"[a-z-]+", name)], element


# --- texts -------------------------------------------------------------------------------------------------------

FOREIGN = Renderer(resources.templates(), ASSETS, lambda _: Pseudo())


def strings(value: object) -> str:
    if is_dataclass(value) and not isinstance(value, type):
        return " ".join(strings(getattr(value, one.name)) for one in fields(value))
    if isinstance(value, tuple):
        return " ".join(map(strings, value))
    return str(value)


def test_every_text_can_be_translated(sample: Sample) -> None:
    document = Document(FOREIGN.render(sample.page, replace(sample.chrome, language="en-XA")))
    # Innermost first: a text may hold another one.
    spoken = ("aria-label", "alt", "title", "placeholder", "data-done", "data-text", "data-label")
    rest = document.text + " ".join(one.get(name) for one in document.elements for name in spoken)
    while rest != (rest := re.sub(r"⟦[^⟦⟧]*⟧", " ", rest)):
        pass
    known = strings(sample.page) + strings(sample.chrome) + " UTC Jan Feb Nov"
    assert [word for word in re.findall(r"[A-Za-z]{3,}", rest) if word not in known] == []


def test_the_extraction_finds_the_texts_of_templates_and_code() -> None:
    root = resources.templates().parent
    with (root / "templates/translations/babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)

    def ours(folder: str) -> bool:
        return folder[len(str(root)) + 1 :].partition("/")[0] in ("templates", "broker")

    found = {
        message if isinstance(message, str) else message[0]
        for _, _, message, _, _ in extract_from_dir(root, methods, options, directory_filter=ours)
    }
    assert {"Sign in", "Don't remember your password?", "%(num)d minute", "At least %(num)d character"} <= found


# --- how big, how fast -------------------------------------------------------------------------------------------


def test_a_page_is_at_most_five_kilobytes_on_the_wire(sample: Sample) -> None:
    html, _ = drawn(sample)
    assert len(gzip.compress(html.encode())) <= 5_000


def test_a_page_needs_four_requests_at_most(sample: Sample) -> None:
    html, _ = drawn(sample)
    assert len({*re.findall(r'(?:src|<link rel="[a-z]+" href)="([^"]+)"', html)}) <= 3
