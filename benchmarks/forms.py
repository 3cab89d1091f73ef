"""Finds and fills HTML forms the way a password manager does: by `autocomplete` tokens first, by name and type second.

A scanner by regular expressions, not a parser: it is several times cheaper and enough for forms that programs are meant to find.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape

TAG = re.compile(r"<(/?form|input|button)\b((?:[^>\"']|\"[^\"]*\"|'[^']*')*)>", re.I)
ATTRIBUTE = re.compile(r"([^\s=\"'<>/]+)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+)))?")
MARKUP = re.compile(r"<[^>]*>")
IDENTIFIERS = {"username", "login", "email", "identifier", "user", "userid", "user_id"}
YES = re.compile(r"\b(accept|allow|approve|authori[sz]e|grant|consent|agree|confirm|continue|yes)\b", re.I)
NO = re.compile(r"\b(deny|refuse|reject|decline|cancel|abort|logout|switch|no|not)\b", re.I)


@dataclass(slots=True)
class Form:
    """One form: its fields and submit buttons as attribute dictionaries; a button's text is under the key `label`."""

    action: str = ""
    method: str = "get"
    fields: list[dict[str, str]] = field(default_factory=list)
    buttons: list[dict[str, str]] = field(default_factory=list)

    def _find(self, token: str, types: set[str], names: set[str]) -> dict[str, str] | None:
        usable = [f for f in self.fields if "disabled" not in f]
        return next((f for f in usable if token in f.get("autocomplete", "").lower().split()), None) or next(
            (
                f
                for f in usable
                if f.get("type", "text").lower() in types and (not names or f.get("name", "").lower() in names)
            ),
            None,
        )

    def password(self) -> dict[str, str] | None:
        """The field for the current password."""
        found = self._find("current-password", {"password"}, set())
        return None if found and "new-password" in found.get("autocomplete", "") else found

    def identifier(self) -> dict[str, str] | None:
        """The field for user name or e-mail address, unless the page has already filled and locked it."""
        found = self._find("username", {"text", "email"}, IDENTIFIERS) or self._find("email", {"email"}, set())
        return None if found is None or found.get("type") == "hidden" or "readonly" in found else found

    def data(self, filled: dict[str, str], button: dict[str, str] | None = None) -> list[tuple[str, str]]:
        """What a browser would send: every successful control with `filled` over it, and the button that was pressed (default: the first)."""
        pairs = []
        for control in self.fields:
            name, kind = control.get("name"), control.get("type", "text").lower()
            if not name or "disabled" in control or kind in ("file", "reset", "image"):
                continue
            if kind in ("checkbox", "radio"):
                if "checked" in control:
                    pairs.append((name, control.get("value", "on")))
            else:
                pairs.append((name, filled.get(name, control.get("value", ""))))
        button = button or next(iter(self.buttons), None)
        return [*pairs, (button["name"], button.get("value", ""))] if button and button.get("name") else pairs

    def yes(self) -> dict[str, str] | None:
        """The button that agrees, as on a consent page: its value or text says yes and not no."""

        def words(button: dict[str, str]) -> str:
            return " ".join(button.get(key, "") for key in ("value", "id", "name", "label"))

        return next((b for b in self.buttons if YES.search(words(b)) and not NO.search(words(b))), None)


def attributes(text: str) -> dict[str, str]:
    """The attributes of a tag; names in lower case, values unescaped, '' for those without a value."""
    found = {name.lower(): a or b or c for name, a, b, c in ATTRIBUTE.findall(text)}
    return {name: unescape(value) if "&" in value else value for name, value in found.items()} if "&" in text else found


def forms(page: bytes) -> list[Form]:
    """The forms of a page in document order; controls elsewhere join by their `form` attribute."""
    html = page.decode("utf-8", "replace")
    found: list[Form] = []
    by_id: dict[str, Form] = {}
    current = None
    for match in TAG.finditer(html):
        tag, attrs = match[1].lower(), attributes(match[2])
        if tag == "form":
            current = Form(attrs.get("action", ""), attrs.get("method", "get").lower())
            found.append(current)
            by_id[attrs.get("id", "")] = current
        elif tag == "/form":
            current = None
        elif owner := by_id.get(attrs["form"]) if "form" in attrs else current:
            kind = attrs.get("type", "submit" if tag == "button" else "text").lower()
            if kind == "submit" and "disabled" not in attrs:
                end = html.find("</button", match.end()) if tag == "button" else match.end()
                owner.buttons.append(attrs | {"label": " ".join(MARKUP.sub(" ", html[match.end() : end]).split())})
            elif tag == "input":
                owner.fields.append(attrs)
    return found
