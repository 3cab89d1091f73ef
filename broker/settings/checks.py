"""What no single value can tell: ids that are there twice, names that lead nowhere. Looks at the tree, so that these
mistakes are found beside others in the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from broker.core.errors import InvalidIdentifier
from broker.core.identifiers import parse_domain, parse_identifier
from broker.settings.problems import Problems, guess
from broker.settings.source import Items, Node, Scalar, Table
from broker.settings.wording import entry_id


def check_tenant(tenant: Table, problems: Problems) -> None:
    """The cross-references within one tenant in one environment."""
    connections = list(_entries(tenant, "connections"))
    clients = list(_entries(tenant, "clients"))
    known = {text for entry in connections if (text := _text(entry.entries.get("id")))}
    _twice(
        "connections", [(f"[{index}].id", entry.entries.get("id")) for index, entry in enumerate(connections)], problems
    )
    _twice(
        "clients",
        [(f"[{index}].client_id", entry.entries.get("client_id")) for index, entry in enumerate(clients)],
        problems,
    )
    _twice("languages", [("", node) for node in _items(tenant.entries.get("languages"))], problems, str.lower)
    domains = [
        (f"[{entry_id(entry) or index}].domains", node)
        for index, entry in enumerate(connections)
        for node in _items(entry.entries.get("domains"))
    ]
    _twice(
        "connections",
        domains,
        problems,
        _domain,
        "belongs to a connection already; one connection a domain would be right",
    )
    for index, client in enumerate(clients):
        key = f"clients[{entry_id(client) or index}].connections"
        names = list(_items(client.entries.get("connections")))
        _twice(key, [("", node) for node in names], problems)
        for node in names:
            _known_connection(node, key, known, problems)
    admins = list(_entries(tenant, "admins"))
    for index, admin in enumerate(admins):
        _known_connection(admin.entries.get("connection"), f"admins[{index}].connection", known, problems)
    _admins_twice(admins, problems)


def _known_connection(node: Node | None, key: str, known: set[str], problems: Problems) -> None:
    name = _text(node)
    if node is not None and name and name not in known:
        problems.add(node.position, key, f"names a connection that this tenant does not have; {guess(name, known)}")


def _twice(
    prefix: str,
    nodes: Sequence[tuple[str, Node | None]],
    problems: Problems,
    canonical: Callable[[str], str] = str,
    message: str = "is here twice; different ones would be right",
) -> None:
    first: dict[str, Node] = {}
    for name, node in nodes:
        text = _text(node)
        if node is None or not text:
            continue
        earlier = first.setdefault(canonical(text), node)
        if earlier is not node:
            where = f" (the other stands in {earlier.position.file}:{earlier.position.line})"
            problems.add(node.position, f"{prefix}{name}", message + where)


def _admins_twice(admins: list[Table], problems: Problems) -> None:
    first: set[tuple[str, str]] = set()
    for index, admin in enumerate(admins):
        connection, identifier = _text(admin.entries.get("connection")), _text(admin.entries.get("identifier"))
        if not connection or not identifier:
            continue
        try:
            pair = connection, parse_identifier(identifier).key
        except InvalidIdentifier:
            continue
        if pair in first:
            problems.add(
                admin.position,
                f"admins[{index}]",
                "names the same person twice; one entry with one role would be right",
            )
        first.add(pair)


def _domain(text: str) -> str:
    star = "*." if text.startswith("*.") else ""
    try:
        return star + parse_domain(text.removeprefix("*."))
    except InvalidIdentifier:
        return text


def _text(node: Node | None) -> str | None:
    return node.text if isinstance(node, Scalar) else None


def _items(node: Node | None) -> Iterator[Node]:
    return iter(node.items if isinstance(node, Items) else ())


def _entries(tenant: Table, key: str) -> Iterator[Table]:
    return (node for node in _items(tenant.entries.get(key)) if isinstance(node, Table))
