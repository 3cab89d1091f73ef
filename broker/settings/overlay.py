"""An environment is its tenant with some values changed: the two trees are merged, and every value keeps the place
where it was written, so a mistake in an overlay is reported in the overlay's line."""

from __future__ import annotations

from broker.settings.source import Items, Node, Scalar, Table

MERGED_LISTS = {"connections": "id", "clients": "client_id"}
"""Lists whose entries are merged by their id; every other list is replaced whole."""

NULLS = frozenset({"", "~", "null", "Null", "NULL"})


def merge(below: Table, above: Table) -> Table:
    """`above` wins, key by key. A value of `null` removes what was inherited, so that the default holds again."""
    merged = Table(below.position, dict(below.entries), dict(below.keys))
    for key, node in above.entries.items():
        inherited = below.entries.get(key)
        if inherited is not None and isinstance(node, Scalar) and node.plain and node.text in NULLS:
            del merged.entries[key]
            del merged.keys[key]
            continue
        if isinstance(node, Table) and isinstance(inherited, Table):
            node = merge(inherited, node)
        elif key in MERGED_LISTS and isinstance(node, Items) and isinstance(inherited, Items):
            node = _merge_items(inherited, node, MERGED_LISTS[key])
        merged.entries[key] = node
        merged.keys[key] = above.keys[key]
    return merged


def _merge_items(below: Items, above: Items, id_key: str) -> Items:
    items = list(below.items)
    places = {name: place for place, item in enumerate(items) if (name := _id(item, id_key)) is not None}
    own: set[str] = set()
    for item in above.items:
        name = _id(item, id_key)
        place = places.get(name) if name is not None and name not in own else None
        if name is None or place is None:
            items.append(item)
            continue
        own.add(name)
        inherited = items[place]
        if isinstance(item, Table) and isinstance(inherited, Table) and not _other_type(inherited, item):
            item = merge(inherited, item)
        items[place] = item
    return Items(below.position, items)


def _id(node: Node, id_key: str) -> str | None:
    found = node.entries.get(id_key) if isinstance(node, Table) else None
    return found.text if isinstance(found, Scalar) else None


def _other_type(below: Table, above: Table) -> bool:
    """A connection of another type has other keys: it replaces the inherited one whole."""
    old, new = below.entries.get("type"), above.entries.get("type")
    return isinstance(old, Scalar) and isinstance(new, Scalar) and old.text != new.text
