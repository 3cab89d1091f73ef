"""What a key-value store has to do (`broker.core.ports.KeyValue`)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.core.ports import KeyValue
from broker.testing.race import CALLERS, ROUNDS, race

MINUTE = timedelta(minutes=1)


class KeyValueContract:
    """Inherit, and give a fixture `kv` on an empty store."""

    @pytest.fixture
    def kv(self) -> KeyValue:
        raise NotImplementedError

    def test_what_was_put_is_there_byte_for_byte(self, kv: KeyValue) -> None:
        value = bytes(range(256))
        assert kv.get("a") is None
        assert kv.put("a", value, MINUTE)
        assert kv.get("a") == value

    def test_putting_again_replaces_it(self, kv: KeyValue) -> None:
        kv.put("a", b"1", MINUTE)
        assert kv.put("a", b"2", MINUTE)
        assert kv.get("a") == b"2"

    def test_put_only_if_absent_leaves_what_is_there(self, kv: KeyValue) -> None:
        assert kv.put("a", b"1", MINUTE, only_if_absent=True)
        assert not kv.put("a", b"2", MINUTE, only_if_absent=True)
        assert kv.get("a") == b"1"

    def test_a_key_may_hold_what_no_encoding_allows(self, kv: KeyValue) -> None:
        for key in ("\ud800", "{", "}{", "\0", "é" * 5000, ""):
            kv.put(key, key.encode("utf-8", "surrogatepass"), MINUTE)
        assert kv.get("\ud800") == b"\xed\xa0\x80"
        assert kv.take("}{") == b"}{"
        assert kv.take("") == b""

    def test_take_gets_and_removes(self, kv: KeyValue) -> None:
        kv.put("a", b"1", MINUTE)
        assert kv.take("a") == b"1"
        assert kv.get("a") is None
        assert kv.take("a") is None

    def test_what_is_put_after_a_take_can_be_taken(self, kv: KeyValue) -> None:
        for value in (b"1", b"2", b"3"):
            kv.put("a", value, MINUTE)
            assert kv.take("a") == value

    def test_swap_replaces_the_expected_value_only(self, kv: KeyValue) -> None:
        assert not kv.swap("a", b"", b"1", MINUTE)
        kv.put("a", b"1", MINUTE)
        assert not kv.swap("a", b"2", b"3", MINUTE)
        assert kv.swap("a", b"1", b"2", MINUTE)
        assert kv.get("a") == b"2"
        assert not kv.swap("a", b"1", b"2", MINUTE)

    def test_delete_removes_any_number_of_keys(self, kv: KeyValue) -> None:
        kv.put("a", b"1", MINUTE)
        kv.put("b", b"1", MINUTE)
        kv.delete()
        kv.delete("a", "b", "never there")
        assert kv.get("a") is None
        assert kv.get("b") is None

    def test_count_adds_one_each_time(self, kv: KeyValue) -> None:
        assert [kv.count("a", MINUTE) for _ in range(3)] == [1, 2, 3]
        assert kv.count("b", MINUTE) == 1

    def test_ping_says_nothing_when_all_is_well(self, kv: KeyValue) -> None:
        kv.ping()

    def test_of_32_who_take_one_gets_it(self, kv: KeyValue) -> None:
        for number in range(ROUNDS):
            kv.put(f"t{number}", b"1", MINUTE)
            got = race(lambda _, key=f"t{number}": kv.take(key))  # type: ignore[misc]
            assert sorted(value is not None for value in got) == [False] * (CALLERS - 1) + [True]

    def test_of_32_who_swap_the_same_value_one_succeeds(self, kv: KeyValue) -> None:
        for number in range(ROUNDS):
            kv.put(f"s{number}", b"old", MINUTE)
            got = race(lambda _, key=f"s{number}": kv.swap(key, b"old", b"new", MINUTE))  # type: ignore[misc]
            assert sum(got) == 1

    def test_of_32_who_put_only_if_absent_one_succeeds(self, kv: KeyValue) -> None:
        for number in range(ROUNDS):
            got = race(lambda _, key=f"p{number}": kv.put(key, b"1", MINUTE, only_if_absent=True))  # type: ignore[misc]
            assert sum(got) == 1

    def test_32_who_count_are_counted_each(self, kv: KeyValue) -> None:
        assert sorted(race(lambda _: kv.count("c", MINUTE))) == list(range(1, CALLERS + 1))
