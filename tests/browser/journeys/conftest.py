"""`homerealm demo` and Debian's Chromium, for stories told through the real pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser

from broker.demo.preparation import Addresses, prepare
from tests.browser.gallery import chromium
from tests.browser.journeys.people import Demo, Window
from tests.browser.journeys.strangers import STRANGERS, Strangers
from tests.servers import answers, free_ports, program, running, short_folder


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strangers]:
    """Apps on origins of their own, whose callbacks lead on to yet other origins."""
    with Strangers(tmp_path_factory.mktemp("strangers")) as found:
        yield found


@pytest.fixture(scope="session")
def demo(strangers: Strangers) -> Iterator[Demo]:
    """The demo on three free ports, one for each worker of the tests; those apps are clients of Acme."""
    with short_folder() as folder:
        addresses = Addresses(free_ports(3))
        config, upstream = prepare(folder / "demo", addresses, reset=False)
        path = config / "tenants" / "acme.yaml"
        acme: dict[str, Any] = yaml.safe_load(path.read_text())
        acme["clients"] += [
            {
                "client_id": name, "client_name": name.title(), "token_endpoint_auth_method": "none",
                "redirect_uris": [strangers.callback(name)],
            }
            for name in STRANGERS
        ]  # fmt: skip
        path.write_text(yaml.safe_dump(acme))
        command = [program(), "demo", "--port", str(addresses.first), "--folder", folder / "demo"]
        log = folder / "demo.log"

        def ready() -> bool:
            return "demo is ready" in log.read_text() and answers(addresses.first, "/healthz")

        with running(command, ready, log=log, seconds=90):
            yield Demo(addresses, config, upstream)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def open_window(browser: Browser, demo: Demo) -> Iterator[Callable[..., Window]]:
    """Open another browser with cookies of its own. No story may end with something that the policy forbade."""
    windows: list[Window] = []

    def open_one(**options: Any) -> Window:
        windows.append(Window(browser.new_context(**options), demo))
        return windows[-1]

    yield open_one
    complaints = [text for window in windows for text in (*window.complaints, *window.missing)]
    for window in windows:
        window.context.close()
    assert complaints == []


@pytest.fixture
def window(open_window: Callable[..., Window]) -> Window:
    return open_window()
