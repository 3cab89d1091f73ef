"""What a store of codes and refresh families has to do (`broker.core.ports.Grants`)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.core.ports import Grants, Reused
from broker.core.values import Grant, GrantId
from broker.testing.clock import FixedClock
from broker.testing.race import CALLERS, ROUNDS, race
from broker.testing.samples import a_grant

MINUTE = timedelta(minutes=1)


class GrantsContract:
    """Inherit, and give fixtures `grants` (on an empty store) and `clock`, which it reads."""

    @pytest.fixture
    def grants(self) -> Grants:
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> FixedClock:
        return FixedClock()

    @pytest.fixture
    def grant(self, clock: FixedClock) -> Grant:
        return a_grant(clock.now())

    @pytest.fixture
    def code(self, grants: Grants, grant: Grant) -> str:
        code = grants.code_for(grant.id, "random")
        grants.save_code(code, grant, MINUTE)
        return code

    @pytest.fixture
    def tokens(self, grants: Grants, grant: Grant, code: str) -> list[str]:
        """Refresh tokens of a family that lives; the first one is the current one."""
        tokens = [grants.refresh_for(grant.id, f"random-{n}") for n in range(4)]
        assert grants.redeem_code(code, tokens[0]) == grant
        return tokens

    def test_a_code_gives_its_grant_and_the_family_begins_to_live(
        self, grants: Grants, grant: Grant, code: str
    ) -> None:
        assert grants.find(grant.id) is None
        assert grants.redeem_code(code) == grant
        assert grants.find(grant.id) == grant.redeemed()

    def test_a_family_begins_with_its_first_refresh_token_or_never_has_one(
        self, grants: Grants, grant: Grant, code: str
    ) -> None:
        with pytest.raises(ValueError):
            grants.redeem_code(code, grants.refresh_for(GrantId("other"), "random"))
        assert grants.redeem_code(code) == grant, "a mistake used nothing up"
        unissued = grants.refresh_for(grant.id, "random")
        assert grants.peek_refresh(unissued) is None
        assert not isinstance(grants.rotate_refresh(unissued, grants.refresh_for(grant.id, "next")), Grant)

    def test_a_code_that_comes_twice_kills_the_family(self, grants: Grants, grant: Grant, code: str) -> None:
        grants.redeem_code(code)
        assert grants.redeem_code(code) == Reused(grant.id)
        assert grants.find(grant.id) is None
        assert grants.redeem_code(code) == Reused(grant.id)

    def test_a_code_that_comes_again_much_later_kills_the_family_too(
        self, grants: Grants, grant: Grant, code: str, tokens: list[str], clock: FixedClock
    ) -> None:
        clock.advance(timedelta(days=20))
        assert grants.rotate_refresh(tokens[0], tokens[1]) == grant.redeemed()
        assert grants.redeem_code(code) == Reused(grant.id)
        assert grants.find(grant.id) is None
        assert grants.peek_refresh(tokens[1]) is None
        assert not isinstance(grants.rotate_refresh(tokens[1], tokens[2]), Grant)

    def test_other_codes_are_nothing_and_harm_nothing(self, grants: Grants, grant: Grant, code: str) -> None:
        for wrong in ("", ".", "x", grant.id, f"{grant.id}.", code + "x", f"other.{code}", "\ud800.\udfff"):
            assert grants.redeem_code(wrong) is None
        assert grants.redeem_code(code) == grant
        assert grants.redeem_code(f"{grant.id}.wrong") is None
        assert grants.find(grant.id) == grant.redeemed()

    def test_a_code_is_refused_when_its_time_is_over(
        self, grants: Grants, grant: Grant, code: str, clock: FixedClock
    ) -> None:
        clock.advance(MINUTE)
        assert grants.redeem_code(code) is None
        assert grants.find(grant.id) is None

    def test_a_code_of_another_grant_is_not_saved(self, grants: Grants, grant: Grant) -> None:
        with pytest.raises(ValueError):
            grants.save_code(grants.code_for(GrantId("other"), "random"), grant, MINUTE)

    def test_a_refresh_token_is_replaced_by_its_successor(
        self, grants: Grants, grant: Grant, tokens: list[str]
    ) -> None:
        assert grants.peek_refresh(tokens[0]) == grant.redeemed()
        assert grants.rotate_refresh(tokens[0], tokens[1]) == grant.redeemed()
        assert grants.peek_refresh(tokens[0]) is None
        assert grants.peek_refresh(tokens[1]) == grant.redeemed()
        assert grants.rotate_refresh(tokens[1], tokens[2]) == grant.redeemed()

    def test_an_older_token_kills_the_family(self, grants: Grants, grant: Grant, tokens: list[str]) -> None:
        grants.rotate_refresh(tokens[0], tokens[1])
        grants.rotate_refresh(tokens[1], tokens[2])
        assert grants.rotate_refresh(tokens[0], tokens[3]) == Reused(grant.id)
        assert grants.find(grant.id) is None
        assert grants.peek_refresh(tokens[2]) is None
        assert not isinstance(grants.rotate_refresh(tokens[2], tokens[3]), Grant)

    def test_looking_at_an_older_token_harms_nothing(self, grants: Grants, grant: Grant, tokens: list[str]) -> None:
        grants.rotate_refresh(tokens[0], tokens[1])
        assert grants.peek_refresh(tokens[0]) is None
        assert grants.find(grant.id) == grant.redeemed()

    def test_an_invented_token_is_nothing_and_harms_nothing(
        self, grants: Grants, grant: Grant, tokens: list[str]
    ) -> None:
        for token in ("", "x", "..", f"{grant.id}.random.mac", tokens[0] + "x", tokens[0][:-1], "\ud800.\ud800.é"):
            assert grants.rotate_refresh(token, tokens[1]) is None
            assert grants.peek_refresh(token) is None
        assert grants.find(grant.id) == grant.redeemed()

    def test_a_token_of_another_family_cannot_become_a_successor(
        self, grants: Grants, grant: Grant, tokens: list[str]
    ) -> None:
        other = grants.refresh_for(GrantId("other"), "random")
        with pytest.raises(ValueError):
            grants.rotate_refresh(tokens[0], other)
        assert grants.peek_refresh(tokens[0]) == grant.redeemed()

    def test_a_family_ends_when_its_time_is_over(
        self, grants: Grants, grant: Grant, tokens: list[str], clock: FixedClock
    ) -> None:
        clock.advance(timedelta(days=30))
        assert grants.find(grant.id) is None
        assert grants.peek_refresh(tokens[0]) is None
        assert grants.rotate_refresh(tokens[0], tokens[1]) is None

    def test_revoking_ends_a_family_once(self, grants: Grants, grant: Grant, code: str, tokens: list[str]) -> None:
        assert grants.revoke(grant.id)
        assert not grants.revoke(grant.id)
        assert not grants.revoke(GrantId("unknown"))
        assert grants.find(grant.id) is None
        assert grants.rotate_refresh(tokens[0], tokens[1]) is None
        assert not isinstance(grants.redeem_code(code, tokens[1]), Grant)
        assert grants.peek_refresh(tokens[1]) is None

    def test_revoking_before_the_code_came_spends_the_code(self, grants: Grants, grant: Grant, code: str) -> None:
        assert grants.revoke(grant.id)
        assert not isinstance(grants.redeem_code(code), Grant)
        assert grants.find(grant.id) is None

    def test_an_access_token_can_be_revoked_alone(self, grants: Grants) -> None:
        assert not grants.is_revoked("jti-1")
        grants.revoke_token("jti-1", MINUTE)
        grants.revoke_token("jti-2", timedelta(seconds=-1))
        assert grants.is_revoked("jti-1")
        assert not grants.is_revoked("jti-2")

    def test_a_grant_is_found_unless_the_token_or_the_grant_is_revoked(self, grants: Grants, clock: FixedClock) -> None:
        grant = a_grant(clock.now())
        code, token = grants.code_for(grant.id, "code"), grants.refresh_for(grant.id, "first")
        grants.save_code(code, grant, MINUTE)
        grants.redeem_code(code, token)
        assert grants.find_unless_revoked(grant.id, "jti-1") == grants.find(grant.id) == grant.redeemed()
        grants.revoke_token("jti-1", MINUTE)
        assert grants.find_unless_revoked(grant.id, "jti-1") is None
        assert grants.find_unless_revoked(grant.id, "jti-2") == grant.redeemed()
        grants.revoke(grant.id)
        assert grants.find_unless_revoked(grant.id, "jti-2") is None

    def test_of_32_who_redeem_a_code_one_gets_it_and_the_family_is_dead(
        self, grants: Grants, clock: FixedClock
    ) -> None:
        for number in range(ROUNDS):
            grant = a_grant(clock.now(), f"redeeming-{number}")
            code = grants.code_for(grant.id, "random")
            grants.save_code(code, grant, MINUTE)
            got = race(lambda _, code=code: grants.redeem_code(code))  # type: ignore[misc]
            assert got.count(grant) == 1
            assert got.count(Reused(grant.id)) == CALLERS - 1
            assert grants.find(grant.id) is None

    def test_of_32_who_rotate_a_token_one_gets_it_and_the_family_is_dead(
        self, grants: Grants, clock: FixedClock
    ) -> None:
        for number in range(ROUNDS):
            grant = a_grant(clock.now(), f"rotating-{number}")
            code, token = grants.code_for(grant.id, "random"), grants.refresh_for(grant.id, "first")
            grants.save_code(code, grant, MINUTE)
            grants.redeem_code(code, token)
            successors = [grants.refresh_for(grant.id, f"next-{n}") for n in range(CALLERS)]
            got = race(lambda n, old=token, new=successors: grants.rotate_refresh(old, new[n]))  # type: ignore[misc]
            assert got.count(grant.redeemed()) == 1
            assert got.count(Reused(grant.id)) == CALLERS - 1
            assert grants.find(grant.id) is None
            assert [token for token in successors if grants.peek_refresh(token)] == []
