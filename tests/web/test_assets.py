"""Static files: addresses that change with the content, colours without inline style."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from broker import resources
from broker.core import brand
from broker.web.assets import Asset, Assets

FOLDER = resources.templates() / "static"


@pytest.fixture
def assets() -> Assets:
    return Assets(FOLDER, "/sso/static")


def served(assets: Assets, address: str) -> Asset:
    assert address.startswith("/sso/static/")
    found = assets.find(address.removeprefix("/sso/static/"))
    assert found is not None
    return found


def test_an_address_changes_when_the_content_does(assets: Assets, tmp_path: Path) -> None:
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert Assets(tmp_path, "/sso/static").url("hosted.js") == assets.url("hosted.js")
    (tmp_path / "hosted.js").write_text("1")
    changed = Assets(tmp_path, "/sso/static")
    assert changed.url("hosted.js") != assets.url("hosted.js")
    assert changed.find(assets.url("hosted.js").rpartition("/")[2]) is None


def test_everything_is_served_for_ever_and_as_what_it_is(assets: Assets) -> None:
    script = served(assets, assets.url("hosted.js"))
    headers, body = script.answer()
    assert body == (FOLDER / "hosted.js").read_bytes()
    assert headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [("gzip, deflate, br", True), ("*", True), ("GZIP;q=0.5", True), ("", False), ("br", False), ("gzip;q=0", False)],
)
def test_a_client_gets_the_encoding_that_it_accepts(assets: Assets, accepted: str, compressed: bool) -> None:
    script = served(assets, assets.url("hosted.js"))
    headers, body = script.answer(accepted)
    assert ("Content-Encoding" in headers) is compressed
    assert headers["Vary"] == "Accept-Encoding"
    assert (gzip.decompress(body) if compressed else body) == script.body


def test_the_style_sheet_and_the_script_are_small(assets: Assets) -> None:
    assert len(served(assets, assets.sheet_url()).compressed or b"") <= 6_000
    assert len(served(assets, assets.url("hosted.js")).compressed or b"") <= 3_000


def test_the_style_sheet_carries_the_colours_of_the_tenant(assets: Assets) -> None:
    css = served(assets, assets.sheet_url("#7A1FA2")).body.decode()
    palette = brand.palette("#7A1FA2")
    assert css.startswith((FOLDER / "hosted.css").read_text())
    assert f":root{{--accent:{palette.light.accent};--on-accent:{palette.light.ink}}}" in css
    assert f"{{:root{{--accent:{palette.dark.accent};--on-accent:{palette.dark.ink}}}}}" in css
    assert assets.sheet_url("#7A1FA2") != assets.sheet_url("#7A1FA2", "#ffd54f") != assets.sheet_url()


def test_another_process_answers_for_a_sheet_that_it_never_drew(assets: Assets) -> None:
    address = assets.sheet_url("#12663a")
    assert served(Assets(FOLDER, "/sso/static"), address).body == served(assets, address).body


@pytest.mark.parametrize(
    "name",
    [
        "", "hosted.css", "hosted.js", "../layout.html", "hosted-0b5fff-0b5fff.000000000000.css",
        "hosted-zzzzzz-0b5fff.000000000000.css",
        "hosted-0b5fff-0b5fff.css", "logo.000000000000.svg", "icon.svg\0",
    ],
)  # fmt: skip
def test_nothing_else_is_served(assets: Assets, name: str) -> None:
    assert assets.find(name) is None


def test_a_colour_that_is_none_is_refused(assets: Assets) -> None:
    for color in ("red", "#fff", "#0b5fff;}", ""):
        if color:
            with pytest.raises(ValueError, match="#rrggbb"):
                assets.sheet_url(color)


def test_a_logo_gets_an_address_and_cannot_run_anything(assets: Assets, tmp_path: Path) -> None:
    logo = tmp_path / "acme.SVG"
    logo.write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    found = served(assets, assets.add_logo(logo))
    headers, _ = found.answer()
    assert headers["Content-Type"] == "image/svg+xml"
    assert headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'; sandbox"


def test_a_logo_of_another_kind_or_of_any_size_is_refused(assets: Assets, tmp_path: Path) -> None:
    page = tmp_path / "logo.html"
    page.write_text("<script>alert(1)</script>")
    with pytest.raises(ValueError, match="a logo is one of"):
        assets.add_logo(page)
    big = tmp_path / "logo.png"
    big.write_bytes(b"x" * 200_001)
    with pytest.raises(ValueError, match="200,000 bytes"):
        assets.add_logo(big)


def test_the_pages_of_the_style_sheet_are_those_that_brands_are_checked_against() -> None:
    css = (FOLDER / "hosted.css").read_text()
    light, dark = re.findall(r"--card:(#[0-9a-f]+)", css)
    assert brand.luminance("#ffffff" if light == "#fff" else light) >= brand.luminance(brand.LIGHT_PAGE)
    assert brand.luminance(dark) <= brand.luminance(brand.DARK_PAGE)


def test_only_logical_properties_are_used_so_that_right_to_left_comes_free() -> None:
    css = re.sub(r"/\*.*?\*/", "", (FOLDER / "hosted.css").read_text(), flags=re.S)
    assert (
        re.findall(r"(?:margin|padding|border)-(?:left|right)|[{;](?:left|right|float):|text-align:(?:left|right)", css)
        == []
    )
    assert "url(" not in css
    assert "@import" not in css
