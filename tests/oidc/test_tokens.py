"""Refresh, client credentials, revocation, introspection: what tokens are worth, and until when."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.values import Actor
from broker.oidc.provider import Answer
from broker.oidc.signing import REFRESH, Signing
from tests.oidc.op import CALLBACK, ISSUER, SECRET, VERIFIER, Op, body, header


def test_an_access_token_is_a_jwt_of_rfc_9068_with_a_kid(op: Op) -> None:
    token = op.tokens(scope="openid orders")["access_token"]
    claims, now = op.read(token, "ES256"), int(op.clock.now().timestamp())
    assert header(token)["typ"] == "at+jwt"
    assert header(token)["alg"] == "ES256"
    assert claims.pop("jti")
    assert claims.pop("gid")
    assert claims == {
        "iss": ISSUER, "sub": op.ada.id, "aud": ISSUER, "client_id": "shop", "scope": "openid orders", "iat": now,
        "exp": now + 600, "auth_time": now, "acr": "1", "sid": op.session.id,
    }  # fmt: skip


def test_an_access_token_is_for_the_api_that_is_configured_and_with_openid_for_userinfo_too(op: Op) -> None:
    assert op.read(op.tokens("api-user", "orders")["access_token"], "ES256")["aud"] == "https://api.acme.example"
    token = op.tokens("api-user")["access_token"]
    assert op.read(token, "ES256")["aud"] == ["https://api.acme.example", ISSUER]
    assert op.userinfo(token).status == 200


def test_an_access_token_expires_and_never_after_its_grant(op: Op) -> None:
    token = op.tokens()["access_token"]
    short = op.tokens(grant={"expires_at": op.clock.now() + timedelta(seconds=90)})
    assert short["expires_in"] == 90
    op.clock.advance(timedelta(minutes=10))
    assert op.userinfo(token).status == 401


# --- Refresh --------------------------------------------------------------------------------------------------------


def test_a_refresh_gives_new_tokens_and_the_id_token_keeps_who_and_when(op: Op) -> None:
    first = op.tokens(scope="openid email")
    op.clock.advance(timedelta(minutes=7))
    second = body(op.refresh(first["refresh_token"]))
    assert second["refresh_token"] != first["refresh_token"]
    assert second["scope"] == "openid email"
    before, after = op.read(first["id_token"]), op.read(second["id_token"])
    for name in ("iss", "sub", "aud", "auth_time", "acr", "amr", "sid"):
        assert after[name] == before[name]
    assert after["iat"] == before["iat"] + 420
    assert "nonce" not in after
    assert op.userinfo(second["access_token"]).status == 200


def test_an_older_refresh_token_kills_the_family(op: Op) -> None:
    first = op.tokens()
    second = body(op.refresh(first["refresh_token"]))
    assert body(op.refresh(first["refresh_token"]))["error"] == "invalid_grant"
    assert body(op.refresh(second["refresh_token"]))["error"] == "invalid_grant"
    assert op.userinfo(second["access_token"]).status == 401
    assert ("shop", "refresh.reused") in op.events(first["refresh_token"].partition(".")[0])


def test_a_refresh_may_narrow_the_scope_and_the_next_one_has_it_all_again(op: Op) -> None:
    first = op.tokens(scope="openid email orders")
    narrow = body(op.refresh(first["refresh_token"], scope="orders"))
    assert narrow["scope"] == "orders"
    assert "id_token" not in narrow
    assert body(op.refresh(narrow["refresh_token"]))["scope"] == "openid email orders"


def test_a_refresh_that_asks_for_more_is_refused_and_the_token_is_not_lost(op: Op) -> None:
    first = op.tokens(scope="openid")
    assert body(op.refresh(first["refresh_token"], scope="openid email"))["error"] == "invalid_scope"
    assert op.refresh(first["refresh_token"]).status == 200


def test_a_refresh_token_of_another_client_is_refused(op: Op) -> None:
    token = op.tokens("shop")["refresh_token"]
    assert body(op.refresh(token, "forum"))["error"] == "invalid_grant"


def test_an_invented_refresh_token_harms_no_family(op: Op) -> None:
    token = op.tokens()["refresh_token"]
    family = token.partition(".")[0]
    for invented in (f"{family}.x.y", f"{family}.", family, ".", token + "x", "ü" * 50):
        assert body(op.refresh(invented))["error"] == "invalid_grant"
    assert op.refresh(token).status == 200


def test_without_offline_access_a_family_ends_with_the_browser_session(op: Op) -> None:
    tokens, offline = op.tokens(), op.tokens(scope="openid offline_access")
    op.sessions.close(op.session.id)
    assert body(op.refresh(tokens["refresh_token"]))["error"] == "invalid_grant"
    assert op.userinfo(tokens["access_token"]).status == 401
    assert op.refresh(offline["refresh_token"]).status == 200


def test_a_family_ends_when_its_time_is_over(op: Op) -> None:
    token = op.tokens(scope="openid offline_access")["refresh_token"]
    op.clock.advance(op.tenant.rules.lifetimes.refresh_token)
    assert body(op.refresh(token))["error"] == "invalid_grant"


def test_a_client_without_the_refresh_grant_gets_no_refresh_token(op: Op) -> None:
    assert "refresh_token" not in op.tokens("plain")
    answer = op.refresh("anything", "plain")
    assert body(answer)["error"] == "unauthorized_client"


def block(op: Op) -> None:
    with op.database.writing() as work:
        work.users.update(op.ada.id, lambda user: replace(user, blocked=True))


def change_password(op: Op) -> None:
    with op.database.writing() as work:
        work.users.move_epoch(op.ada.id)


def delete(op: Op) -> None:
    with op.database.writing() as work:
        work.users.delete(op.ada.id)


def remove_connection(op: Op) -> None:
    op.tenant = replace(op.tenant, connections=())


def remove_client(op: Op) -> None:
    op.tenant = replace(op.tenant, clients={id: client for id, client in op.tenant.clients.items() if id != "shop"})


@pytest.mark.parametrize("happens", [block, change_password, delete, remove_connection, remove_client])
def test_everything_older_is_dead_at_once_when(op: Op, happens: Callable[[Op], None]) -> None:
    tokens, code = op.tokens(scope="openid offline_access"), op.code()
    assert op.userinfo(tokens["access_token"]).status == 200
    happens(op)
    assert op.userinfo(tokens["access_token"]).status == 401
    error = "invalid_client" if happens is remove_client else "invalid_grant"
    assert body(op.refresh(tokens["refresh_token"]))["error"] == error
    assert body(op.exchange(code))["error"] == error
    seen = op.post("introspect", {"token": tokens["access_token"]}, client="forum")
    assert body(seen) == {"active": False}


def expire(op: Op, _: str) -> None:
    op.clock.advance(op.tenant.rules.lifetimes.access_token)


def revoke(op: Op, token: str) -> None:
    assert op.post("revoke", {"token": token}).status == 200


def lose_the_key(op: Op, _: str) -> None:
    op.signing.rotate(op.tenant, Actor.command_line("ops"), at_once=True)


def lose_the_key_elsewhere(op: Op, _: str) -> None:
    Signing(op.database, op.clock).rotate(op.tenant, Actor.command_line("ops"), at_once=True)
    op.clock.advance(REFRESH)


@pytest.mark.parametrize("happens", [expire, revoke, lose_the_key, lose_the_key_elsewhere])
def test_a_token_whose_signature_is_remembered_is_refused_at_once_when(
    op: Op, happens: Callable[[Op, str], None]
) -> None:
    """docs/decisions/remembered-signatures.md; block, epoch, client and connection are in the test above."""
    token = op.tokens(scope="openid offline_access")["access_token"]
    for _ in range(2):
        assert op.userinfo(token).status == 200
    happens(op, token)
    assert op.userinfo(token).status == 401
    assert body(op.post("introspect", {"token": token})) == {"active": False}


def test_tokens_of_one_tenant_are_nothing_at_another(op: Op) -> None:
    tokens, code = op.tokens(), op.code()
    op.tenant = replace(op.tenant, id="globex", issuer="https://login.globex.example", directory="globex/live")  # type: ignore[arg-type]
    assert op.userinfo(tokens["access_token"]).status == 401
    assert body(op.refresh(tokens["refresh_token"]))["error"] == "invalid_grant"
    assert body(op.exchange(code))["error"] == "invalid_grant"


def test_32_threads_redeem_one_code_and_one_of_them_gets_tokens_that_the_others_kill(op: Op) -> None:
    code = op.code()
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: op.exchange(code), range(32)))
    won = [answer for answer in answers if answer.status == 200]
    assert len(won) == 1
    assert {body(answer)["error"] for answer in answers if answer.status != 200} == {"invalid_grant"}
    assert op.userinfo(body(won[0])["access_token"]).status == 401


def test_32_threads_refresh_with_one_token_and_one_of_them_wins_at_most(op: Op) -> None:
    token = op.tokens()["refresh_token"]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: op.refresh(token), range(32)))
    assert sum(answer.status == 200 for answer in answers) == 1


# --- Client credentials -------------------------------------------------------------------------------------------


def credentials(op: Op, **changes: str | None) -> Answer:
    return op.post("token", {"grant_type": "client_credentials", **changes}, client="svc")


def test_a_client_acts_for_itself_with_the_scopes_that_it_has(op: Op) -> None:
    answer = body(credentials(op, scope="orders other"))
    assert answer["scope"] == "orders"
    assert set(answer) == {"access_token", "token_type", "expires_in", "scope"}
    claims = op.read(answer["access_token"], "ES256")
    assert (claims["sub"], claims["client_id"]) == ("svc", "svc")
    assert "gid" not in claims
    assert body(credentials(op))["scope"] == "orders stock"


def test_a_client_of_its_own_has_no_userinfo_and_no_scopes_of_people(op: Op) -> None:
    assert body(credentials(op, scope="openid"))["error"] == "invalid_scope"
    token = body(credentials(op))["access_token"]
    assert op.userinfo(token).status == 403


def test_client_credentials_are_for_clients_with_that_grant_and_a_secret(op: Op) -> None:
    refused = op.post("token", {"grant_type": "client_credentials"}, client="shop")
    assert body(refused)["error"] == "unauthorized_client"
    op.change("spa", grant_types=("client_credentials",))
    public = op.post("token", {"grant_type": "client_credentials", "client_id": "spa"}, client=None)
    assert body(public)["error"] == "invalid_client"


def test_client_credentials_touch_neither_database_nor_key_value_store(op: Op) -> None:
    credentials(op)  # the keys are loaded

    class Broken:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"{name} was used")

    op.signing._database = op.database = op.grants = op.sessions = Broken()  # type: ignore[assignment]
    op.provider = op.build(op.signing)
    assert credentials(op).status == 200


# --- Revocation and introspection ---------------------------------------------------------------------------------


def test_a_revoked_access_token_is_dead_and_its_refresh_token_lives(op: Op) -> None:
    tokens = op.tokens()
    assert op.post("revoke", {"token": tokens["access_token"], "token_type_hint": "refresh_token"}).status == 200
    assert op.userinfo(tokens["access_token"]).status == 401
    assert op.refresh(tokens["refresh_token"]).status == 200


def test_a_revoked_refresh_token_ends_its_family(op: Op) -> None:
    tokens = op.tokens()
    assert op.post("revoke", {"token": tokens["refresh_token"], "token_type_hint": "nonsense"}).status == 200
    assert op.refresh(tokens["refresh_token"]).status == 400
    assert op.userinfo(tokens["access_token"]).status == 401


def test_revoking_what_is_no_token_is_fine_and_what_is_another_clients_is_not(op: Op) -> None:
    tokens = op.tokens()
    assert op.post("revoke", {"token": "nonsense"}).status == 200
    for token in (tokens["access_token"], tokens["refresh_token"]):
        assert body(op.post("revoke", {"token": token}, client="forum"))["error"] == "invalid_grant"
    assert op.userinfo(tokens["access_token"]).status == 200
    assert body(op.post("revoke", {}))["error"] == "invalid_request"
    assert op.post("revoke", {"token": "x"}, secret="wrong").status == 401


def test_a_public_client_revokes_its_own_tokens(op: Op) -> None:
    tokens = op.tokens("spa")
    assert op.post("revoke", {"token": tokens["refresh_token"], "client_id": "spa"}, client=None).status == 200
    assert op.userinfo(tokens["access_token"]).status == 401


def test_introspection_tells_the_client_and_the_audience_of_a_token_and_nobody_else(op: Op) -> None:
    tokens = op.tokens()
    mine = body(op.post("introspect", {"token": tokens["access_token"]}))
    assert mine["active"] is True
    assert (mine["sub"], mine["client_id"], mine["username"]) == (op.ada.id, "shop", op.ada.username)
    assert "gid" not in mine
    refresh = body(op.post("introspect", {"token": tokens["refresh_token"]}))
    assert (refresh["active"], refresh["scope"]) == (True, "openid")
    for token in (tokens["access_token"], tokens["refresh_token"]):
        assert body(op.post("introspect", {"token": token}, client="forum")) == {"active": False}
    op.change("api-user", access_token_audience="forum")
    meant = op.tokens("api-user", "orders")["access_token"]
    assert body(op.post("introspect", {"token": meant}, client="forum"))["active"] is True


def test_introspection_of_a_clients_own_token_knows_its_revocation(op: Op) -> None:
    token = body(credentials(op))["access_token"]
    assert body(op.post("introspect", {"token": token}, client="svc"))["active"] is True
    op.post("revoke", {"token": token}, client="svc")
    assert body(op.post("introspect", {"token": token}, client="svc")) == {"active": False}


def test_introspection_is_not_for_public_clients(op: Op) -> None:
    answer = op.post("introspect", {"token": "x", "client_id": "spa"}, client=None)
    assert (answer.status, body(answer)["error"]) == (401, "invalid_client")


# --- The form ---------------------------------------------------------------------------------------------------------


def test_parameters_in_the_address_of_the_token_endpoint_are_refused(op: Op) -> None:
    answer = op.post("token", {"grant_type": "client_credentials"}, client="svc", query=[("x", "1")])
    assert body(answer)["error"] == "invalid_request"


def test_a_parameter_twice_at_the_token_endpoint_is_refused_and_uses_nothing_up(op: Op) -> None:
    from broker.oidc.provider import Request
    from tests.oidc.op import basic

    code = op.code()
    pairs = [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK), ("code", "other")]
    pairs.append(("code_verifier", VERIFIER))
    sent = Request("POST", ISSUER, {"authorization": basic("shop", SECRET)}, [], pairs)
    assert body(op.provider.token(op.tenant, sent))["error"] == "invalid_request"
    assert op.exchange(code).status == 200


@pytest.mark.parametrize(("grant_type", "error"), [(None, "invalid_request"), ("password", "unsupported_grant_type")])
def test_a_missing_or_unknown_grant_type_has_its_error(op: Op, grant_type: str | None, error: str) -> None:
    answer = op.post("token", {"grant_type": grant_type})
    assert (answer.status, body(answer)["error"]) == (400, error)
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_client_without_the_code_grant_is_told_so_at_the_authorization_endpoint(op: Op) -> None:
    op.change("svc", redirect_uris=(CALLBACK,))
    assert op.refused("svc", scope="orders")["error"] == "unauthorized_client"


def test_what_a_grant_needs_is_asked_for(op: Op) -> None:
    assert body(op.post("token", {"grant_type": "authorization_code"}))["error"] == "invalid_request"
    assert body(op.post("token", {"grant_type": "refresh_token"}))["error"] == "invalid_request"
