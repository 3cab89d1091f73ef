"""What a person with a link is told: every combination of everything that can be wrong with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from broker.core.ticket import Purpose, TicketState, judge
from broker.core.values import Actor, UserId
from broker.testing.records import DEV, LIVE, a_ticket, a_user

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ISSUED = NOW - timedelta(minutes=10)
LATER = NOW - timedelta(minutes=1)
# In this order: who may not even know is answered first; of several reasons, the one that says most about what to do.
WRONG = {
    "purpose": ({"purpose": Purpose.INVITE}, {}, TicketState.ELSEWHERE),
    "environment": ({"directory": DEV}, {}, TicketState.ELSEWHERE),
    "blocked": ({}, {"blocked": True}, TicketState.ACCOUNT_OFF),
    "used": ({"used_at": LATER}, {}, TicketState.USED),
    "replaced": ({"replaced_at": LATER}, {}, TicketState.REPLACED),
    "expired": ({"expires_at": NOW}, {}, TicketState.EXPIRED),
    "epoch": ({}, {"epoch": 1}, TicketState.VOID),
    "address": ({}, {"email": "new@acme.example"}, TicketState.VOID),
}


@pytest.mark.parametrize("wrong", list(product([False, True], repeat=len(WRONG))))
def test_the_first_thing_that_is_wrong_is_told(wrong: tuple[bool, ...]) -> None:
    ticket: dict[str, object] = {}
    user: dict[str, object] = {}
    reasons = [reason for reason, is_so in zip(WRONG.values(), wrong, strict=True) if is_so]
    for of_ticket, of_user, _ in reasons:
        ticket |= of_ticket
        user |= of_user
    expected = reasons[0][2] if reasons else TicketState.VALID
    assert judge(a_ticket(ISSUED, **ticket), Purpose.RESET, LIVE, a_user(ISSUED, **user), NOW) is expected


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("presented", Purpose)
def test_a_ticket_works_for_its_own_purpose_alone(purpose: Purpose, presented: Purpose) -> None:
    state = judge(a_ticket(ISSUED, purpose=purpose), presented, LIVE, a_user(ISSUED), NOW)
    assert state is (TicketState.VALID if purpose is presented else TicketState.ELSEWHERE)


def test_what_we_never_issued_is_mangled() -> None:
    assert judge(None, Purpose.RESET, LIVE, a_user(ISSUED), NOW) is TicketState.MANGLED


def test_a_link_of_somebody_deleted_leads_to_an_account_that_is_off() -> None:
    assert judge(a_ticket(ISSUED), Purpose.RESET, LIVE, None, NOW) is TicketState.ACCOUNT_OFF


@pytest.mark.parametrize(("seconds", "state"), [(-1, TicketState.VALID), (0, TicketState.EXPIRED)])
def test_a_link_ends_at_its_last_moment(seconds: int, state: TicketState) -> None:
    ticket = a_ticket(ISSUED)
    now = ticket.expires_at + timedelta(seconds=seconds)
    assert judge(ticket, Purpose.RESET, LIVE, a_user(ISSUED), now) is state


def test_an_address_is_the_one_it_was_sent_to_byte_for_byte() -> None:
    ticket = a_ticket(ISSUED, address="ada@acme.example")
    assert judge(ticket, Purpose.RESET, LIVE, a_user(ISSUED), NOW) is TicketState.VOID


def test_a_link_that_went_to_no_address_survives_a_change_of_it() -> None:
    ticket = a_ticket(ISSUED, address=None, issued_by=Actor.command_line("root"))
    assert judge(ticket, Purpose.RESET, LIVE, a_user(ISSUED, email=None), NOW) is TicketState.VALID


def test_a_link_is_of_one_person() -> None:
    # The caller looks the user up by the ticket; somebody else's record must not make it valid.
    other = a_user(ISSUED, "grace", email="Ada@Acme.example")
    assert judge(a_ticket(ISSUED, user=UserId("user-ada")), Purpose.RESET, LIVE, other, NOW) is not TicketState.VALID


def test_a_link_is_of_one_directory_whatever_the_user_says() -> None:
    assert judge(a_ticket(ISSUED), Purpose.RESET, LIVE, a_user(ISSUED, directory=DEV), NOW) is not TicketState.VALID
