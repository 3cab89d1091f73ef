"""What a login needs next, for every situation that can be made up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.policy import MAIL_ONLY, POLICY, Situation, Step, errors_by_step, explain, next_step
from broker.core.tenant import Client
from broker.core.values import ClientId, ConnectionId, SessionId, UserId
from broker.testing.records import a_user
from broker.testing.samples import a_transaction, an_identity

anything = settings(deadline=None, max_examples=60)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STAFF = ConnectionId("staff")
ADA = UserId("user-ada")
PROMPTS = st.sets(st.sampled_from(["login", "consent", "select_account"])).map(" ".join) | st.just("none")
# OIDC Core 3.1.2.6, and `blocked`, of which an app learns no more than that nobody is signed in.
ERRORS = {"login_required", "interaction_required", "account_selection_required", "consent_required"}


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    request = {"scope": draw(st.sampled_from(["openid", "openid email", "openid email phone"]))}
    for name, values in (
        ("prompt", PROMPTS),
        ("max_age", st.sampled_from(["0", "60", "3600"])),
        ("hinted_subject", st.sampled_from([ADA, "user-grace"])),
    ):
        if draw(st.booleans()):
            request[name] = draw(values)
    transaction = a_transaction(NOW, request=request, connection=draw(st.sampled_from([None, STAFF])), upstream=None)
    if draw(st.booleans()):
        age = timedelta(seconds=draw(st.sampled_from([0, 59, 61, 7200])))
        identity = an_identity(NOW, at=NOW - age, methods=draw(st.sampled_from([("pwd",), MAIL_ONLY, ()])))
        transaction = replace(
            transaction, identity=identity, user=ADA, connection=STAFF, epoch=draw(st.sampled_from([3, 4])),
            interactive=draw(st.booleans()), selected=draw(st.booleans()),
            factors=draw(st.sampled_from([(), ("otp",)])), consented=draw(st.sampled_from([None, (), ("openid",)])),
        )  # fmt: skip
    user = None
    if transaction.identity is not None and draw(st.integers(0, 4)):
        user = a_user(
            NOW, epoch=3, connection=draw(st.sampled_from([None, STAFF])),
            blocked=draw(st.booleans()), must_change_password=draw(st.booleans()),
        )  # fmt: skip
    client = Client(
        ClientId("shop"), "Shop", first_party=draw(st.booleans()), default_max_age=draw(st.sampled_from([None, 60]))
    )
    granted = frozenset(draw(st.sets(st.sampled_from(["openid", "email", "phone"]))))
    return Situation(transaction, client, NOW, user, granted, draw(st.booleans()))


@anything
@given(situations())
def test_the_next_step_is_the_first_unmet_check_of_the_explanation(situation: Situation) -> None:
    step, check = next_step(situation)
    explained = explain(situation)
    assert [name for name, _ in explained] == [one.name for one in POLICY]
    unmet = [name for name, met in explained if not met]
    assert (check.name if check else None) == (unmet[0] if unmet else None)
    assert (step is Step.ISSUE) == (not unmet)


@anything
@given(situations())
def test_a_code_is_issued_only_when_everything_is_in_order(s: Situation) -> None:
    if next_step(s)[0] is not Step.ISSUE:
        return
    one = s.transaction
    assert one.identity is not None
    assert s.user is not None
    assert one.user == s.user.id
    assert s.user.epoch == one.epoch
    assert not s.user.blocked
    assert "login" not in one.prompts or one.interactive
    assert "select_account" not in one.prompts or one.selected
    assert one.factors or not s.factors_required
    assert not (s.user.must_change_password and one.identity.connection == s.user.connection)
    assert one.request.get("hinted_subject", one.user) == one.user
    limit = one.max_age if one.max_age is not None else s.client.default_max_age
    if limit is not None and not one.interactive:
        assert s.now - one.identity.at <= timedelta(seconds=limit)
        assert one.identity.methods != MAIL_ONLY, "a mailed link is never a fresh sign-in"
    if one.consented is None:
        assert "consent" not in one.prompts
        assert s.client.first_party or set(one.scopes) <= s.granted


@anything
@given(situations())
def test_every_unmet_check_has_an_error_for_prompt_none(situation: Situation) -> None:
    step, check = next_step(situation)
    if check is not None:
        assert check.error in ERRORS
        assert errors_by_step()[step] == check.error


def test_a_step_has_one_error_whichever_check_asks_for_it() -> None:
    assert len({(check.step, check.error) for check in POLICY}) == len({check.step for check in POLICY})


@anything
@given(situations())
def test_a_session_on_the_transaction_changes_no_answer(situation: Situation) -> None:
    with_session = replace(situation, transaction=replace(situation.transaction, session=SessionId("S1")))
    assert explain(with_session) == explain(situation)


CAUSES = {
    "epoch": lambda s: s.user is None or s.user.epoch != s.transaction.epoch,
    "blocked": lambda s: s.user.blocked,
    "subject": lambda s: "hinted_subject" in s.transaction.request,
    "prompt_login": lambda s: "login" in s.transaction.prompts,
    "max_age": lambda s: s.transaction.max_age is not None or s.client.default_max_age is not None,
    "account": lambda s: "select_account" in s.transaction.prompts,
    "factor": lambda s: s.factors_required,
    "password_expired": lambda s: s.user.must_change_password,
    "consent": lambda s: "consent" in s.transaction.prompts or not s.client.first_party,
}


@anything
@given(situations())
def test_whoever_is_signed_in_is_stopped_only_for_a_cause(situation: Situation) -> None:
    if situation.transaction.identity is None:
        return
    _, check = next_step(situation)
    if check is not None:
        assert CAUSES[check.name](situation)


@anything
@given(situations())
def test_signing_in_anew_leaves_nothing_but_what_a_sign_in_cannot_give(s: Situation) -> None:
    if s.user is None:
        return
    anew = s.transaction.reauthenticate().choose(STAFF).identify(an_identity(NOW, at=NOW), ADA, s.user.epoch)
    unmet = {name for name, met in explain(replace(s, transaction=anew)) if not met}
    assert unmet <= {"blocked", "subject", "factor", "password_expired", "consent"}


def test_nobody_is_signed_in_to_begin_with() -> None:
    fresh = a_transaction(NOW, connection=None, upstream=None)
    client = Client(ClientId("shop"), "Shop")
    assert next_step(Situation(fresh, client, NOW))[0] is Step.CHOOSE_CONNECTION
    assert next_step(Situation(fresh.choose(STAFF), client, NOW))[0] is Step.SIGN_IN
