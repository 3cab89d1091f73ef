"""1,000 tenants with 5,000 connections cost a login nothing that 2 tenants do not. Counted, not timed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from broker.stores.kv.redis import RedisKeyValue
from broker.testing.town import Town
from broker.wiring import loader
from tests.web.test_counts import STATEMENTS, Visits, counted_town

TENANTS = 1000


class Cost(NamedTuple):
    statements: int
    round_trips: int
    calls: int


@dataclass
class Counted(Visits):
    """Remembers what each request of a visit cost."""

    steps: list[Cost] = field(default_factory=list)

    def send(self, method: str, path: str, status: int, **how: Any) -> Any:
        answer = super().send(method, path, status, **how)
        self.steps.append(Cost(*self.cost, self.calls))
        return answer


@pytest.fixture
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with counted_town(tmp_path_factory) as town:
        yield town


def a_login(town: Town) -> list[Cost]:
    """From its first page to what the app asks about who signed in, when everything was asked for once before."""
    key_values = RedisKeyValue.connect(town.key_values[0])
    for _ in range(3):
        visits = Counted(town.broker.app.test_client(), key_values)
        tokens = visits.tokens()
        visits.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
        visits.send("GET", "/userinfo", 200, headers={"Authorization": f"Bearer {tokens['access_token']}"})
    key_values.close()
    STATEMENTS.clear()
    return visits.steps


def write(town: Town, number: int) -> None:
    name = f"t{number:04}"
    lines = [f"tenant: {name}", "connections:", "  - {id: users, type: database}"]
    lines += [
        f"  - {{id: sso{one}, type: oidc, title: SSO {one}, issuer: 'https://sso{one}.{name}.test', "
        f"client_id: us, client_secret: secret-{number}, domains: [d{one}.{name}.test]}}"
        for one in range(4)
    ]
    lines += ["clients:", "  - {client_id: demo, client_secret: s3cret-of-shop, redirect_uris: [https://shop.test/cb]}"]
    (town.broker.config / "tenants" / f"{name}.yaml").write_text("\n".join(lines) + "\n")


def test_a_login_among_a_thousand_tenants_costs_what_it_costs_among_two(town: Town) -> None:
    few = len(town.broker.runtime.settings.tenants)
    alone = a_login(town)
    for number in range(TENANTS - few):
        write(town, number)
    assert town.broker.live.reload()
    settings = town.broker.runtime.settings
    assert len(settings.tenants) == TENANTS
    assert sum(len(tenant.connections) for tenant in settings.tenants.values()) >= 5 * (TENANTS - few)
    among = a_login(town)
    assert [one[:2] for one in among] == [one[:2] for one in alone], "statements and round trips"
    for before, after in zip(alone, among, strict=True):
        assert after.calls <= 1.1 * before.calls, (alone, among)


def test_a_thousand_tenants_are_read_file_by_file_and_once(town: Town) -> None:
    for number in range(TENANTS):
        write(town, number)
    files = len(list((town.broker.config / "tenants").glob("*.yaml")))
    reader = loader(town.broker.config, {})
    reader.load()
    assert reader.parsed == files + 1  # with broker.yaml
