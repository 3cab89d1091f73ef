"""Keys: made once however many start, published before they sign, kept until nothing needs them."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import load_der_private_key
from joserfc import jws
from joserfc.jwk import KeySet
from jwt.algorithms import ECAlgorithm

from broker.core.tenant import Tenant
from broker.core.values import Actor, TenantId
from broker.oidc.signing import OVERLAP, PERIOD, REFRESH, RETENTION, GoodSignatures, Signing
from broker.services.secrets import SecretVault
from broker.stores.sql.database import SqlDatabase
from broker.testing.clock import FixedClock
from broker.testing.entropy import SeededEntropy
from broker.web.protocol import ENDPOINTS
from tests.oidc.op import header, tenant

OPS = Actor.command_line("ops")


class Keys:
    """One database, and as many processes with keys of it as a test wants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FixedClock()
        vault = SecretVault(bytes(range(32)))
        self.database = SqlDatabase(f"sqlite:///{folder}/keys.db", self.clock, SeededEntropy(str(folder)), vault)
        self.database.upgrade()
        self.tenant: Tenant = tenant()

    def process(self) -> Signing:
        return Signing(self.database, self.clock)


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    made = Keys(tmp_path)
    yield made
    made.database.close()


def kids(signing: Signing) -> list[str]:
    return [key["kid"] for key in json.loads(signing.public_jwks("acme"))["keys"]]


def signed_by(signing: Signing) -> str:
    return str(header(signing.sign("acme", "RS256", {}))["kid"])


def test_processes_that_start_together_agree_on_one_key_per_algorithm(keys: Keys) -> None:
    processes = [keys.process() for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        seen = list(pool.map(kids, processes))
    assert len({tuple(sorted(one)) for one in seen}) == 1
    assert len(seen[0]) == 2
    assert len({signed_by(process) for process in processes}) == 1


def test_an_engine_that_lets_both_begin_keeps_one_of_two_equal_kids(keys: Keys) -> None:
    """On PostgreSQL two transactions may both find no key; the second insert then fails on the kid."""
    first, second = keys.process(), keys.process()
    kids(first)

    class Blind:
        """A transaction that began before the other's key was there."""

        def __init__(self, work: object) -> None:
            self.keys = self
            self._work = work

        def of(self, tenant: str) -> list[object]:
            return []

        def add(self, key: object) -> None:
            self._work.keys.add(key)  # type: ignore[attr-defined]

    class Racing:
        def __init__(self) -> None:
            self.reads = 0

        def marker(self) -> str:
            return keys.database.marker()

        def reading(self) -> object:
            from contextlib import contextmanager

            @contextmanager
            def reading() -> Iterator[object]:
                self.reads += 1
                with keys.database.reading() as work:
                    yield Blind(work) if self.reads <= 2 else work

            return reading()

        def writing(self) -> object:
            from contextlib import contextmanager

            @contextmanager
            def writing() -> Iterator[object]:
                with keys.database.writing() as work:
                    yield Blind(work)

            return writing()

    second._database = Racing()  # type: ignore[assignment]
    assert sorted(kids(second)) == sorted(kids(first))


def test_kids_differ_between_tenants_algorithms_and_databases(
    keys: Keys, tmp_path_factory: pytest.TempPathFactory
) -> None:
    signing = keys.process()
    other = Keys(tmp_path_factory.mktemp("other"))
    everywhere = [*kids(signing), *kids(other.process())]
    everywhere += [key.kid for key in signing.keys("globex")]
    other.database.close()
    assert len(set(everywhere)) == 6


def test_the_private_half_is_sealed_in_the_database(keys: Keys) -> None:
    found = keys.process().keys("acme")
    stored = b"".join(path.read_bytes() for path in keys.folder.iterdir() if path.is_file())
    assert found[0].kid.encode() in stored
    assert not any(key.private[-60:] in stored for key in found)


def test_a_new_key_is_published_at_once_and_signs_after_the_overlap(keys: Keys) -> None:
    signing = keys.process()
    before = signed_by(signing)
    added = {key.kid for key in signing.rotate(keys.tenant, OPS)}
    assert len(added) == 2
    assert added < set(kids(signing))
    assert signed_by(signing) == before
    keys.clock.advance(OVERLAP - timedelta(seconds=1))
    assert signed_by(signing) == before
    keys.clock.advance(timedelta(seconds=1))
    assert signed_by(signing) in added
    assert before in kids(signing), "what it signed is still verified"


def test_after_a_rotation_the_old_tokens_and_the_new_ones_verify(keys: Keys) -> None:
    signing = keys.process()
    old = signing.sign("acme", "RS256", {"sub": "ada"})
    signing.rotate(keys.tenant, OPS)
    keys.clock.advance(OVERLAP)
    new = signing.sign("acme", "RS256", {"sub": "ada"})
    published = KeySet.import_key_set(json.loads(signing.public_jwks("acme")))
    for token in (old, new):
        assert signing.verify("acme", token, "JWT") == {"sub": "ada"}
        assert jws.deserialize_compact(token, published, algorithms=["RS256"])


def test_another_process_sees_a_new_key_after_the_refresh_and_at_once_when_a_token_names_it(keys: Keys) -> None:
    first, second = keys.process(), keys.process()
    kids(first), kids(second)
    keys.clock.advance(timedelta(seconds=2))
    first.rotate(keys.tenant, OPS, at_once=True)
    assert second.verify("acme", first.sign("acme", "ES256", {"sub": "ada"}), "JWT") == {"sub": "ada"}
    first.rotate(keys.tenant, OPS)
    assert kids(second) != kids(first)
    keys.clock.advance(REFRESH)
    assert kids(second) == kids(first)


def test_keys_are_not_read_from_the_database_for_every_token(keys: Keys) -> None:
    signing = keys.process()
    token = signing.sign("acme", "ES256", {})
    signing._database = None  # type: ignore[assignment]
    signing.sign("acme", "ES256", {})
    signing.verify("acme", token, "JWT")
    signing.verify("acme", "x.y.z", "JWT")
    assert signing.public_jwks("acme") is signing.public_jwks("acme")


def test_the_worker_rotates_when_it_is_time_retires_the_old_and_removes_it_at_last(keys: Keys) -> None:
    signing = keys.process()
    first = set(kids(signing))
    assert signing.rotate_due([keys.tenant]) == 0
    keys.clock.advance(PERIOD)
    assert signing.rotate_due([keys.tenant]) == 2
    assert signing.rotate_due([keys.tenant]) == 0, "once"
    assert len(kids(signing)) == 4
    keys.clock.advance(OVERLAP)
    assert signing.rotate_due([keys.tenant]) == 2
    assert {key.kid for key in signing.keys("acme") if key.retired_at} == first
    assert first < set(kids(signing)), "still published"
    keys.clock.advance(RETENTION + timedelta(seconds=1))
    assert signing.rotate_due([keys.tenant]) == 2
    assert first.isdisjoint(kids(signing))
    with keys.database.reading() as work:
        actions = [event.action for event in work.audit.read(keys.tenant.directory)]
    assert actions.count("key.added") == 2
    assert actions.count("key.retired") == 2


def test_the_worker_makes_no_keys_for_a_tenant_that_nobody_uses(keys: Keys) -> None:
    signing = keys.process()
    assert signing.rotate_due([replace(keys.tenant, id=TenantId("unused"))]) == 0
    with keys.database.reading() as work:
        assert work.keys.of("unused") == []


def test_after_a_leak_the_new_keys_sign_at_once_and_the_old_ones_are_worth_nothing(keys: Keys) -> None:
    signing = keys.process()
    token, before = signing.sign("acme", "RS256", {}), set(kids(signing))
    added = {key.kid for key in signing.rotate(keys.tenant, OPS, at_once=True)}
    assert set(kids(signing)) == added
    assert added.isdisjoint(before)
    assert signed_by(signing) in added
    assert signing.verify("acme", token, "JWT") is None


def test_a_token_is_no_token_of_another_type_tenant_or_algorithm(keys: Keys) -> None:
    signing = keys.process()
    token = signing.sign("acme", "ES256", {"sub": "ada"}, "at+jwt")
    assert signing.verify("acme", token, "at+jwt") == {"sub": "ada"}
    assert signing.verify("acme", token, "JWT") is None
    assert signing.verify("globex", token, "at+jwt") is None
    with pytest.raises(ValueError, match="no keys for HS256"):
        signing.sign("acme", "HS256", {})


def test_a_remembered_signature_is_of_these_very_bytes(keys: Keys) -> None:
    """Whoever has a good token cannot change one character of it, whether its maker remembers it or not."""
    maker, other = keys.process(), keys.process()
    token = maker.sign("acme", "ES256", {"sub": "ada"}, "at+jwt", comes_back=True)
    head, payload, signature = token.split(".")
    for process in (maker, other):
        for _ in range(2):
            assert process.verify("acme", token, "at+jwt") == {"sub": "ada"}
        grace = urlsafe_b64encode(b'{"sub":"grace"}').rstrip(b"=").decode()
        altered = ("B" if signature[0] == "A" else "A") + signature[1:]
        bad = [f"{head}.{grace}.{signature}", f"{head}.{payload}.{altered}", f"{head}.{payload}.", f"{head}.{payload}",
               f"{token}.", f"{token}=", f".{token}", f"{head}.{payload}.{signature[:-2]}"]  # fmt: skip
        for attempt in bad:
            assert process.verify("acme", attempt, "at+jwt") is None, attempt


def test_a_header_that_is_not_ours_is_refused_even_when_our_key_signed_it(keys: Keys) -> None:
    """`crit`, `jku`, `jwk`, another order: whoever had our key would have to write what we write."""
    signing = keys.process()
    made = header(signing.sign("acme", "ES256", {}))
    with keys.database.reading() as work:
        key = next(one for one in work.keys.of("acme") if one.kid == made["kid"])
    for change in ({"crit": ["exp"]}, {"jku": "https://evil.test"}, {"b64": False}, {}):
        text = json.dumps({"typ": "JWT", **made, **change}, separators=(",", ":"))
        signed = urlsafe_b64encode(text.encode()).rstrip(b"=") + b"." + urlsafe_b64encode(b"{}").rstrip(b"=")
        private = load_der_private_key(key.private, None)
        raw = ECAlgorithm(ECAlgorithm.SHA256).sign(signed, private)
        token = (signed + b"." + urlsafe_b64encode(raw).rstrip(b"=")).decode()
        assert signing.verify("acme", token, "JWT") is None, text


def test_the_memory_of_signatures_is_bounded_and_forgets_the_oldest() -> None:
    memory, key = GoodSignatures(size=10), generate_private_key(SECP256R1()).public_key()
    tokens = [b"%d" % number for number in range(100)]
    for token in tokens:
        memory.add(token, key)
        assert memory.has(token, key)
    assert 10 <= sum(memory.has(token, key) for token in tokens) <= 20
    other = generate_private_key(SECP256R1()).public_key()
    assert not memory.has(tokens[-1], other), "a good signature is good for one key"


def test_a_new_key_is_known_everywhere_before_it_signs() -> None:
    """A replica may have read the keys just before, and a relying party may have asked just that replica."""
    assert ENDPOINTS["jwks"].seconds > 0
    assert timedelta(seconds=ENDPOINTS["jwks"].seconds) + REFRESH < OVERLAP
