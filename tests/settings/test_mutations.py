"""Whatever is in the files: settings, or a `ConfigurationError` with places, and never anything else."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.settings.conftest import Folder
from tests.settings.test_environments import TENANT as ENVIRONMENTS
from tests.settings.test_secrets import TENANT as SECRETS

PLACE = re.compile(r"[^:\n]+:[0-9]+:[0-9]+: .")
BROKER = """\
base_url: http://localhost:8000
database: sqlite:///var/db
mail: {from: "Homerealm <no-reply@localhost>", transport: "smtp://u:p@host:587?tls=starttls", only_to: ["*@a.example"]}
trusted_proxies: [10.0.0.0/8]
egress: {allow: [10.0.0.1, sso.internal, "fd00::/8"]}
"""
FRAGMENTS = st.sampled_from(
    ["[", "]", "{", "}", ": ", "- ",
     "\n", "  ", "\t", "&a ", "*a", "!!int ", "'", '"', "|\n", ">\n", "#", "---\n", "...\n",
     "%YAML 9.9\n", "<<: ", "? ", "~", "null", "${ENV:A}", "${FILE:/}", "${", "$${", "\u2028", "\ufeff", "\x00", "\x85",
     "9" * 5000, "1e999", ".nan", "http://[", "//", "@", "\\ud800", '"\\ud800"', "é", "😀", "0x", "-0", "12:30"]
)  # fmt: skip


def _mutate(text: str, changes: list[tuple[float, int, str]]) -> str:
    for place, removed, inserted in changes:
        start = int(place * len(text))
        text = text[:start] + inserted + text[start + removed :]
    return text


CHANGES = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 30),
        st.one_of(FRAGMENTS, st.text(max_size=5), st.just("")),
    ),
    min_size=1,
    max_size=4,
)


def _loads_or_says_why(broker: str | bytes, tenant: str | bytes) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Folder(Path(root))
        folder.environ.update(A="a", CANARY="canary-9f2c51")
        folder.write("broker.yaml", broker)
        folder.write("tenants/acme.yaml", tenant)
        for problem in folder.problems():
            assert PLACE.match(problem), problem


QUICK = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(st.sampled_from([ENVIRONMENTS, SECRETS]), CHANGES)
def test_a_mutated_tenant_is_loaded_or_refused_with_places(tenant: str, changes: list[tuple[float, int, str]]) -> None:
    mutated = _mutate(tenant, changes).encode("utf-8", "surrogatepass")
    _loads_or_says_why(BROKER, mutated)


@QUICK
@given(CHANGES)
def test_a_mutated_broker_file_is_loaded_or_refused_with_places(changes: list[tuple[float, int, str]]) -> None:
    _loads_or_says_why(_mutate(BROKER, changes).encode("utf-8", "surrogatepass"), "tenant: acme\n")


@QUICK
@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_loaded_or_refused_with_places(content: bytes) -> None:
    _loads_or_says_why(BROKER, b"tenant: acme\n" + content)
