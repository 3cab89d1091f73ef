"""What every login sends is read without WTForms' fields, and its cookies are written without Werkzeug."""

from __future__ import annotations

import pytest
from werkzeug.datastructures import MultiDict
from werkzeug.http import dump_cookie
from wtforms import BooleanField, Form

from broker.services.secrets import SystemEntropy
from broker.web.cookies import YEAR, Device, Jar
from broker.web.shield import Fields


class Ticked(Form):
    box = BooleanField()


@pytest.mark.parametrize("sent", [{}, {"box": ""}, {"box": "false"}, {"box": "y"}, {"box": "1"}, {"box": "False"}])
def test_a_box_is_ticked_when_wtforms_says_so(sent: dict[str, str]) -> None:
    assert Fields("login", sent).ticked("box") is Ticked(MultiDict(sent)).box.data


def test_a_field_that_was_not_sent_is_empty() -> None:
    assert Fields("login", {"username": " ada "}).text("username") == " ada "
    assert Fields("login", {}).text("username") == ""


@pytest.mark.parametrize("issuer", ["https://login.test/t/acme", "http://localhost:8000/t/acme"])
@pytest.mark.parametrize("typed", [*map(chr, range(0x20, 0x7F)), "ada@acme.test", 'a"b\\c,d;e f', "ädä", "\n", ""])
def test_a_cookie_is_the_one_that_werkzeug_would_write(issuer: str, typed: str) -> None:
    jar = Jar(issuer, {}, SystemEntropy())
    jar.remember(Device("users", typed))
    jar.keep_known_device(f"n.{typed}" if typed.isprintable() and typed.isascii() else "n")
    for (name, value), (_, line) in zip(
        [(jar._name(kind), kept[0]) for kind, kept in jar._set.items()], jar.lines(), strict=True
    ):
        secure = issuer.startswith("https:")
        assert line == dump_cookie(
            name, value, max_age=YEAR, secure=secure, httponly=True, samesite="Lax", sync_expires=False
        )
