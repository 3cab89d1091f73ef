"""What a browser without JavaScript sees of an answer: its text, links and forms.

Fields are found by their standard `autocomplete` tokens (CONTRACT 5), as a password manager finds them, or by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

_VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "wbr"}
_UNSEEN = {"script", "style", "template", "head"}
_INLINE = {
    "a",
    "abbr",
    "b",
    "bdi",
    "bdo",
    "code",
    "em",
    "i",
    "kbd",
    "mark",
    "q",
    "s",
    "small",
    "span",
    "strong",
    "time",
}


@dataclass
class Control:
    """One input, button, select or textarea."""

    kind: str
    """The type of an input or button; `select`, `textarea`."""
    name: str
    value: str
    attributes: Mapping[str, str]
    checked: bool = False
    options: list[tuple[str, str]] = field(default_factory=list)
    text: str = ""

    @property
    def tokens(self) -> list[str]:
        return self.attributes.get("autocomplete", "").split()

    @property
    def label(self) -> str:
        """What a button says."""
        return _tidy(self.text) or self.value

    @property
    def is_button(self) -> bool:
        return self.kind in ("submit", "image", "button", "reset")


@dataclass
class Link:
    href: str
    text: str


@dataclass
class Form:
    """A form as it stands on the page. `fill` it, then `submit` it: hidden fields go along untouched."""

    action: str
    method: str
    controls: list[Control]
    _send: Callable[[str, str, list[tuple[str, str]]], Page] = field(repr=False)

    @property
    def buttons(self) -> list[Control]:
        return [c for c in self.controls if c.kind in ("submit", "image") and "disabled" not in c.attributes]

    @property
    def hidden(self) -> dict[str, str]:
        return {c.name: c.value for c in self.controls if c.kind == "hidden" and c.name}

    def field(self, wanted: str) -> Control:
        """By autocomplete token, else by name. A visible field wins over one that only repeats a username."""
        found = [c for c in self.controls if wanted in c.tokens and c.kind != "hidden"]
        found = found or [c for c in self.controls if c.name == wanted]
        found.sort(key=lambda c: "readonly" in c.attributes)
        if not found:
            fields = [f"{c.name} {c.tokens}" for c in self.controls if not c.is_button]
            raise LookupError(f"no field {wanted!r} in the form to {self.action}; it has {fields}")
        return found[0]

    def fill(self, values: Mapping[str, str | bool] | None = None, /, **more: str | bool) -> Form:
        """Type into fields: `fill({"current-password": "..."})` or `fill(current_password="...")`."""
        for wanted, value in {**(values or {}), **more}.items():
            try:
                control = self.field(wanted)
            except LookupError:
                control = self.field(wanted.replace("_", "-"))
            if control.kind == "radio":
                for other in self.controls:
                    if other.kind == "radio" and other.name == control.name:
                        other.checked = other.value == value
            elif control.kind == "checkbox":
                control.checked = bool(value)
            elif control.kind == "select" and value not in [v for v, _ in control.options]:
                raise LookupError(f"{wanted!r} offers {control.options}, not {value!r}")
            else:
                control.value = str(value)
        return self

    def data(self, button: Control | None = None) -> list[tuple[str, str]]:
        """What a browser would send."""
        sent: list[tuple[str, str]] = []
        for control in self.controls:
            if not control.name or "disabled" in control.attributes:
                continue
            if control.is_button:
                if control is button:
                    sent.append((control.name, control.value))
            elif control.kind not in ("checkbox", "radio") or control.checked:
                sent.append((control.name, control.value))
        return sent

    def submit(self, button: str | None = None) -> Page:
        """Press the button that says this (default: the first), and follow where it leads."""
        pressed = self.buttons[0] if self.buttons else None
        if button is not None:
            matching = [b for b in self.buttons if button in (b.label, b.name, b.value) or button in b.label]
            if not matching:
                raise LookupError(f"no button {button!r}; there are {[b.label for b in self.buttons]}")
            pressed = matching[0]
        attributes = pressed.attributes if pressed else {}
        action = urljoin(self.action, attributes.get("formaction", "")) if "formaction" in attributes else self.action
        return self._send(attributes.get("formmethod", self.method).upper(), action, self.data(pressed))


@dataclass
class Page:
    """An answer after all redirects."""

    url: str
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    html: str
    title: str = ""
    text: str = ""
    body: Mapping[str, str] = field(default_factory=dict)
    """Attributes of <body>."""
    links: list[Link] = field(default_factory=list)
    forms: list[Form] = field(default_factory=list)
    _follow: Callable[[str], Page] | None = field(default=None, repr=False)

    @property
    def data_page(self) -> str | None:
        """The name of the page (CONTRACT 5): `login`, `password`, `reset-elsewhere`, ..."""
        return self.body.get("data-page")

    @property
    def data_code(self) -> str | None:
        """The code of an error page: `ticket.used`."""
        return self.body.get("data-code")

    def json(self) -> Any:
        return json.loads(self.html)

    def form(self, button: str | None = None, *, field: str | None = None, action: str | None = None) -> Form:
        """The one form that has this button, this field (token or name), this text in its address; or the first."""
        fitting = [
            form
            for form in self.forms
            if (button is None or any(button in b.label or button in (b.name, b.value) for b in form.buttons))
            and (field is None or any(field in c.tokens or c.name == field for c in form.controls))
            and (action is None or action in form.action)
        ]
        if not fitting:
            there = [(f.action, [c.name for c in f.controls], [b.label for b in f.buttons]) for f in self.forms]
            raise LookupError(f"no such form on {self.url} ({self.status} {self.data_page}); there are {there}")
        return fitting[0]

    def link(self, text: str) -> Link:
        """The first link that says this, or leads to an address with this in it."""
        for link in self.links:
            if text in link.text or text in link.href:
                return link
        raise LookupError(f"no link {text!r} on {self.url}; there are {[(i.text, i.href) for i in self.links]}")

    def click(self, text: str) -> Page:
        """Follow the link or press the button that says this."""
        for link in self.links:
            if text in link.text and self._follow is not None:
                return self._follow(link.href)
        return self.form(text).submit(text)


def _tidy(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


class Reader(HTMLParser):
    """One pass over the HTML. Mail readers of tests use it, too."""

    def __init__(self, url: str, send: Callable[[str, str, list[tuple[str, str]]], Page]) -> None:
        super().__init__(convert_charrefs=True)
        self.url, self.send = url, send
        self.title, self.words = "", ""
        self.body: dict[str, str] = {}
        self.links: list[Link] = []
        self.forms: list[Form] = []
        self.by_id: dict[str, Form] = {}
        self.strays: list[tuple[str, Control]] = []
        self.open_form: Form | None = None
        self.open_control: Control | None = None
        self.open_link: Link | None = None
        self.unseen = 0
        self.in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = {key: value or "" for key, value in attrs}
        if tag in _UNSEEN:
            self.unseen += 1
        if tag not in _INLINE:
            self.words += "\n"
        if tag == "title":
            self.in_title = True
        elif tag == "body":
            self.body = a
        elif tag == "a" and "href" in a:
            self.open_link = Link(urljoin(self.url, a["href"]), "")
            self.links.append(self.open_link)
        elif tag == "form":
            action = urljoin(self.url, a["action"]) if a.get("action") else self.url
            self.open_form = Form(action, a.get("method", "get").upper(), [], self.send)
            self.forms.append(self.open_form)
            if "id" in a:
                self.by_id[a["id"]] = self.open_form
        elif tag == "option" and self.open_control is not None:
            value = a.get("value", "")
            if "selected" in a or not self.open_control.options:
                self.open_control.value = value
            self.open_control.options.append((value, ""))
        elif tag in ("input", "button", "select", "textarea"):
            self._control(tag, a)

    def _control(self, tag: str, a: dict[str, str]) -> None:
        kind = {"input": a.get("type", "text"), "button": a.get("type", "submit")}.get(tag, tag)
        control = Control(kind, a.get("name", ""), a.get("value", ""), a, checked="checked" in a)
        if kind in ("checkbox", "radio") and "value" not in a:
            control.value = "on"
        if tag != "input":
            self.open_control = control
        if "form" in a:
            self.strays.append((a["form"], control))
        elif self.open_form is not None:
            self.open_form.controls.append(control)

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNSEEN:
            self.unseen = max(0, self.unseen - 1)
        if tag not in _INLINE:
            self.words += "\n"
        if tag == "title":
            self.in_title = False
        elif tag == "a":
            self.open_link = None
        elif tag == "form":
            self.open_form = None
        elif tag in ("button", "select", "textarea"):
            if self.open_control is not None and tag == "textarea":
                self.open_control.value = self.open_control.text.removeprefix("\n")
            self.open_control = None

    def handle_data(self, data: str) -> None:
        if self.in_title:
            self.title += data
        if self.open_control is not None:
            self.open_control.text += data
        if self.open_link is not None:
            self.open_link.text += data
        if not self.unseen:
            self.words += data


def read(
    url: str,
    status: int,
    headers: Mapping[str, str],
    html: str,
    send: Callable[[str, str, list[tuple[str, str]]], Page],
    follow: Callable[[str], Page],
) -> Page:
    """Make a Page of an answer. What is not HTML has its body in `html` and `text`."""
    if "html" not in headers.get("content-type", "html"):
        return Page(url, status, headers, html, text=html, _follow=follow)
    reader = Reader(url, send)
    reader.feed(html)
    reader.close()
    for form_id, control in reader.strays:
        if form_id in reader.by_id:
            reader.by_id[form_id].controls.append(control)
    for link in reader.links:
        link.text = _tidy(link.text)
    lines = (_tidy(line) for line in reader.words.split("\n"))
    text = "\n".join(line for line in lines if line)
    return Page(url, status, headers, html, _tidy(reader.title), text, reader.body, reader.links, reader.forms, follow)
