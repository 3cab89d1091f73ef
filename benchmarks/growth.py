"""1 tenant against 1,000, with five connections each: loading, reloading, watching, and the login page.

`python benchmarks/growth.py`: CPU time, the best of several. Nothing here is pinned; it prints a table.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from werkzeug.test import Client

from broker.app import create_app
from broker.settings.watch import fingerprint
from broker.wiring import Runtime, loader, open_engines

MANY = 1000
REQUESTS = 300
ASK = "response_type=code&client_id=shop&redirect_uri=https://shop.test/callback&scope=openid&state=s&nonce=n"
PKCE = "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"


def write(folder: Path, tenants: int) -> Path:
    config = folder / f"config-{tenants}"
    (config / "tenants").mkdir(parents=True)
    (config / "broker.yaml").write_text(f"base_url: http://localhost\nsecret_key: {'k1Zx' * 12}\n")
    for number in range(tenants):
        lines = [f"tenant: t{number}", "connections:", "  - {id: users, type: database}"]
        lines += [
            f"  - {{id: sso{one}, type: oidc, title: SSO {one}, issuer: 'https://sso{one}.t{number}.test', "
            f"client_id: us, client_secret: secret-{number}, domains: [d{one}.t{number}.test]}}"
            for one in range(4)
        ]
        lines += ["clients:", "  - {client_id: shop, client_secret: s3cret-of-shop, "
                  "redirect_uris: [https://shop.test/callback]}"]  # fmt: skip
        (config / "tenants" / f"t{number:04}.yaml").write_text("\n".join(lines) + "\n")
    return config


def best(action: Callable[[], object], rounds: int = 5) -> float:
    """Milliseconds of CPU."""
    found = []
    for _ in range(rounds):
        started = time.process_time()
        action()
        found.append((time.process_time() - started) * 1000)
    return min(found)


def measure(folder: Path, tenants: int) -> dict[str, float]:
    config = write(folder, tenants)
    figures = {"load, ms": best(lambda: loader(config, {}).load(), 3)}
    reader = loader(config, {})
    tracemalloc.start()
    settings = reader.load()
    figures["settings in memory, MB"] = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    file = config / "tenants" / "t0000.yaml"

    def change() -> None:
        file.write_text(file.read_text() + "# changed\n")
        reader.load()

    figures["reload of one file, ms"] = best(change)
    figures["a look at all files, ms"] = best(
        lambda: fingerprint((config / "tenants",), (str(config / "broker.yaml"),))
    )
    engines = open_engines(settings, environ={})
    try:
        browser = Client(create_app(Runtime(settings, engines)), use_cookies=False)
        names = cycle(settings.tenants)

        def pages() -> None:
            for _ in range(REQUESTS):
                answer = browser.get(f"/t/{next(names)}/authorize?{ASK}&{PKCE}")
                if answer.status_code != 200:
                    raise SystemExit(f"{answer.status_code}: {answer.text[:300]}")

        for _ in range(1 + tenants // REQUESTS):
            pages()  # every tenant's page was drawn once
        gc.collect()
        gc.freeze()  # what belongs to the measurement's own set-up is not walked through for each page
        figures["login page, ms"] = best(pages, 12) / REQUESTS
    finally:
        engines.close()
    return figures


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        one, many = measure(Path(folder), 1), measure(Path(folder), MANY)
    print(f"{'':<26}{'1 tenant':>12}{f'{MANY:,}':>12}{'ratio':>9}")
    for name, value in one.items():
        print(f"{name:<26}{value:>12.2f}{many[name]:>12.2f}{many[name] / value:>9.2f}")


if __name__ == "__main__":
    main()
