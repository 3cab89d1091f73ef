"""Every sample page at an address, with the headers that it is served with, for a real browser to look at."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from gettext import NullTranslations
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from axe_playwright_python.sync_playwright import Axe

from broker import resources
from broker.testing.pages import samples
from broker.testing.pseudo import Pseudo
from broker.web.assets import Assets
from broker.web.headers import security_headers
from broker.web.render import Renderer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SAMPLES = {sample.name: sample for sample in samples()}
LANGUAGES = {"en": NullTranslations(), "en-XA": Pseudo(), "ar": Pseudo()}
"""Arabic stands for its direction: the words are those of the pseudo-language until it is translated."""
OPENED = "document.querySelectorAll('details').forEach(one => one.open = true)"
Start = Callable[[str, list[tuple[str, str]]], Any]


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def gallery() -> Iterator[str]:
    """Serves `<address>/<language>/<sample>`, and axe as a file that the browser keeps compiled; yields the address."""
    templates = resources.templates()
    assets = Assets(templates / "static")
    renderer = Renderer(templates, assets, LANGUAGES.__getitem__)
    axe = Axe().axe_script.encode()

    def app(environ: dict[str, Any], start: Start) -> list[bytes]:
        first, _, name = environ["PATH_INFO"][1:].partition("/")
        if first == "axe.js":
            start("200 OK", [("Content-Type", "text/javascript"), ("Cache-Control", "max-age=600")])
            return [axe]
        if first == "static":
            asset = assets.find(name)
            if asset is not None:
                headers, body = asset.answer(environ.get("HTTP_ACCEPT_ENCODING", ""))
                start("200 OK", list(headers.items()))
                return [body]
        elif first in LANGUAGES and name in SAMPLES:
            sample = SAMPLES[name]
            html = renderer.render(sample.page, replace(sample.chrome, language=first))
            start("200 OK", [("Content-Type", "text/html; charset=utf-8"), *security_headers().items()])
            return [html.encode()]
        start("404 Not Found", [])
        return [b""]

    with make_server("127.0.0.1", 0, app, server_class=_Threads, handler_class=_Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium with an empty profile."""
    from playwright.sync_api import sync_playwright

    if not Path(CHROMIUM).exists():
        raise FileNotFoundError(f"{CHROMIUM} is missing: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        yield browser
        browser.close()


class Visitor:
    """A page of the browser that keeps what the browser complains about."""

    def __init__(self, page: Page, address: str, *, axe: bool = False) -> None:
        self.page, self.address, self.axe = page, address, axe
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._width, self._scheme = 0, ""
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def see(self, name: str, width: int, scheme: Any = "light", language: str = "en") -> None:
        if self._width != width:
            self.page.set_viewport_size({"width": width, "height": 700})
        if self._scheme != scheme:
            self.page.emulate_media(color_scheme=scheme)
        self._width, self._scheme = width, scheme
        target = f"{self.address}/{language}/{name}"
        if self.page.url != target:
            self.page.goto(target)
            self.page.evaluate(OPENED)
            if self.axe:
                self.page.add_script_tag(url=f"{self.address}/axe.js")
