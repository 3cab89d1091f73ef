"""Which connection: chosen before domain before remembered, and never one that is not offered."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.discovery import Discovered, Why, by_domain, discover
from broker.core.tenant import ConnectionEntry
from broker.core.values import ConnectionId

anything = settings(deadline=None)
NAMES = ("users", "staff", "partners", "google")
LABELS = st.lists(st.sampled_from(["a", "b", "acme"]), min_size=1, max_size=4).map(
    lambda one: ".".join([*one, "example"])
)
PATTERNS = LABELS | LABELS.map("*.{}".format)


@st.composite
def offers(draw: st.DrawFn) -> list[ConnectionEntry]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    return [
        ConnectionEntry(ConnectionId(name), "oidc", name, tuple(draw(st.lists(PATTERNS, max_size=3))), None)
        for name in names
    ]


CHOICES = st.none() | st.sampled_from([*NAMES, "gone", "", "USERS"])
TYPED = st.none() | st.text(max_size=12) | LABELS.map("ada@{}".format) | LABELS.map("Ada@{}".format).map(str.upper)


def fits(domain: str, pattern: str) -> bool:
    """Label by label, from the right."""
    have, want = domain.split("."), pattern.removeprefix("*.").split(".")
    return have == want if not pattern.startswith("*.") else len(have) > len(want) and have[-len(want) :] == want


@anything
@given(offers(), CHOICES, TYPED, CHOICES)
def test_the_first_reason_that_there_is_decides(
    offered: list[ConnectionEntry], chosen: str | None, typed: str | None, remembered: str | None
) -> None:
    found = discover(offered, chosen=chosen, identifier=typed, remembered=remembered)
    known = {entry.id: entry for entry in offered}
    domain = by_domain(offered, typed or "")
    if chosen in known:
        expected = Discovered(ConnectionId(str(chosen)), Why.CHOSEN)
    elif domain is not None:
        expected = Discovered(domain.id, Why.DOMAIN)
    elif len(known) == 1:
        expected = Discovered(offered[0].id, Why.ONLY)
    elif remembered in known:
        expected = Discovered(ConnectionId(str(remembered)), Why.REMEMBERED)
    else:
        expected = None
    assert found == expected
    assert found is None or found.connection in known


@anything
@given(offers(), LABELS)
def test_the_most_specific_pattern_wins(offered: list[ConnectionEntry], domain: str) -> None:
    found = by_domain(offered, f"ada@{domain}")
    hits = [(not pattern.startswith("*."), len(pattern), entry.id) for entry in offered for pattern in entry.domains
            if fits(domain, pattern)]  # fmt: skip
    if not hits:
        assert found is None
    else:
        best = max(hits)[:2]
        assert found is not None
        assert found.id in [id for *weight, id in hits if tuple(weight) == best]


@anything
@given(offers(), st.text(max_size=20).filter(lambda text: "@" not in text))
def test_a_username_belongs_to_no_domain(offered: list[ConnectionEntry], typed: str) -> None:
    assert by_domain(offered, typed) is None


def test_a_star_stands_for_at_least_one_label() -> None:
    acme = [ConnectionEntry(ConnectionId("acme"), "oidc", "", ("*.acme.example",), None)]
    assert by_domain(acme, "ada@sales.acme.example")
    assert by_domain(acme, "ada@acme.example") is None
    assert by_domain(acme, "ada@evilacme.example") is None
