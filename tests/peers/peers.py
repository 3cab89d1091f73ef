"""Independent implementations, certified by the OpenID Foundation, as processes: relying parties, and a provider."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

import pytest

from tests.servers import answers, free_port, listens, running, short_folder

HERE = Path(__file__).parent
NODE = HERE / "node"
APACHE_MODULES = Path("/usr/lib/apache2/modules")
RELYING_PARTY = {
    "client_id": "peer",
    "client_secret": "a-secret-of-the-peer-with-some-40-characters",
    "redirect_uri": "http://localhost:9/callback",
    "post_logout_redirect_uri": "http://localhost:9/bye",
}


def need_node() -> None:
    if not shutil.which("node") or not (NODE / "node_modules" / "openid-client").is_dir():
        pytest.skip("the peers from npm are not installed: make test")


def apache() -> str:
    """The Apache program, with mod_auth_openidc beside it."""
    found = shutil.which("apache2", path=os.environ["PATH"] + ":/usr/sbin")
    if not found or not (APACHE_MODULES / "mod_auth_openidc.so").exists():
        pytest.skip("apache2-bin and libapache2-mod-auth-openidc are not installed: make test")
    return found


def verdict(script: str, **given: Any) -> dict[str, Any]:
    """Let a peer loose; its report. Fails the test with the first check that went wrong."""
    done = subprocess.run(
        ["node", NODE / script], input=json.dumps(given), capture_output=True, text=True, timeout=120, cwd=NODE
    )
    assert done.stdout, done.stderr[-2000:]
    report = json.loads(done.stdout)
    wrong = [f"{check['name']}: {check['why']}" for check in report["checks"] if not check["ok"]]
    assert not wrong, wrong
    assert report["ok"]
    return report


@contextlib.contextmanager
def provider(log: Path, *clients: Mapping[str, Any]) -> Iterator[str]:
    """node-oidc-provider with these clients; its issuer. Any user name signs in with any password."""
    need_node()
    port = free_port()
    settings = json.dumps({"port": port, "clients": clients})
    ready = lambda: answers(port, "/.well-known/openid-configuration")  # noqa: E731
    with running(["node", NODE / "op-oidc-provider.mjs", settings], ready, log=log, cwd=NODE):
        yield f"http://localhost:{port}"


@contextlib.contextmanager
def mod_auth_openidc(issuer: str, port: int) -> Iterator[str]:
    """Apache with mod_auth_openidc on this port, as a client of `issuer`; its origin."""
    program = apache()
    with short_folder() as folder:
        folder.chmod(0o777)  # Apache, started by root, works as nobody
        for page, words in {"protected": "Behind the door", "bye": "Outside again"}.items():
            (folder / "pages" / page).mkdir(parents=True)
            (folder / "pages" / page / "index.html").write_text(f"<!doctype html><title>{page}</title><p>{words}</p>")
        text = Template((HERE / "apache" / "httpd.conf.in").read_text()).substitute(
            folder=folder, port=port, modules=APACHE_MODULES, issuer=issuer, passphrase="only-for-this-one-test-run",
            client_id=RELYING_PARTY["client_id"], client_secret=RELYING_PARTY["client_secret"],
        )  # fmt: skip
        (folder / "httpd.conf").write_text(text)
        command = [program, "-d", folder, "-f", folder / "httpd.conf", "-DFOREGROUND"]
        try:
            with running(command, lambda: listens(port), log=folder / "output.log", cwd=folder):
                yield f"http://localhost:{port}"
        except BaseException:
            errors = folder / "error.log"
            print(errors.read_text(errors="replace")[-4000:] if errors.exists() else "no error log")
            raise


def registered(port: int) -> dict[str, Any]:
    """What a provider must know of our relying parties (RFC 7591), mod_auth_openidc on `port` among them."""
    return {
        "client_id": RELYING_PARTY["client_id"],
        "client_secret": RELYING_PARTY["client_secret"],
        "redirect_uris": [RELYING_PARTY["redirect_uri"], f"http://localhost:{port}/callback"],
        "post_logout_redirect_uris": [RELYING_PARTY["post_logout_redirect_uri"], f"http://localhost:{port}/bye/"],
    }
