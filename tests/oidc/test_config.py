"""OpenID Connect Config OP profile: discovery and keys. And RFC 8414, which asks for the same document."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import urlsplit

from broker.core.claims import STANDARD
from tests.oidc.op import ISSUER, Op, header


def document(op: Op) -> dict[str, object]:
    return dict(json.loads(op.provider.metadata(op.tenant)))


def test_config_the_issuer_is_the_configured_one_and_every_endpoint_lies_under_it_with_https(op: Op) -> None:
    found = document(op)
    assert found["issuer"] == ISSUER
    places = {name: str(value) for name, value in found.items() if name.endswith(("_endpoint", "jwks_uri"))}
    assert set(places) == {
        "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "revocation_endpoint",
        "introspection_endpoint", "end_session_endpoint",
    }  # fmt: skip
    assert all(url.startswith(f"{ISSUER}/") and urlsplit(url).scheme == "https" for url in places.values())


def test_config_what_discovery_and_rfc_8414_require_is_there(op: Op) -> None:
    found = document(op)
    assert found["response_types_supported"] == ["code"]
    assert found["subject_types_supported"] == ["public"]
    assert found["id_token_signing_alg_values_supported"] == ["RS256", "ES256"]
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert found["authorization_response_iss_parameter_supported"] is True
    assert found["claims_parameter_supported"] is True
    assert found["request_parameter_supported"] is False
    assert found["request_uri_parameter_supported"] is False, "its default is true (Discovery 3)"
    assert found["ui_locales_supported"] == ["en", "de"]
    assert set(STANDARD) | {"sub", "acr", "auth_time"} <= set(found["claims_supported"])  # type: ignore[call-overload]


def test_config_no_private_name_and_nothing_that_does_not_work_is_announced(op: Op) -> None:
    registered = {
        # OpenID Connect Discovery 1.0
        "issuer", "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "scopes_supported",
        "response_types_supported", "response_modes_supported", "grant_types_supported", "acr_values_supported",
        "subject_types_supported", "id_token_signing_alg_values_supported", "token_endpoint_auth_methods_supported",
        "display_values_supported", "claim_types_supported", "claims_supported", "ui_locales_supported",
        "claims_parameter_supported", "request_parameter_supported", "request_uri_parameter_supported",
        "require_request_uri_registration",
        # RFC 8414, RFC 9207, RP-Initiated Logout, Initiating User Registration
        "revocation_endpoint", "revocation_endpoint_auth_methods_supported", "introspection_endpoint",
        "introspection_endpoint_auth_methods_supported", "code_challenge_methods_supported",
        "authorization_response_iss_parameter_supported", "end_session_endpoint", "prompt_values_supported",
    }  # fmt: skip
    assert set(document(op)) <= registered


def test_config_everything_announced_is_honoured(op: Op) -> None:
    found = document(op)
    for prompt in found["prompt_values_supported"]:  # type: ignore[attr-defined]
        assert op.ask(prompt=prompt)
    for scope in found["scopes_supported"]:  # type: ignore[attr-defined]
        assert op.ask(scope=scope).parameters["scope"] == scope
    for mode in found["response_modes_supported"]:  # type: ignore[attr-defined]
        assert op.ask(response_mode=mode)
    for mode in ("fragment", "form_post", "query.jwt", "nonsense"):
        assert op.refused(response_mode=mode)["error"] == "invalid_request"


def test_config_the_document_is_the_same_bytes_until_the_configuration_changes(op: Op) -> None:
    first = op.provider.metadata(op.tenant)
    assert op.provider.metadata(op.tenant) is first
    op.tenant = replace(op.tenant, languages=("fr",))
    assert document(op)["ui_locales_supported"] == ["fr"]


def test_config_the_keys_are_public_distinct_and_rs256_stands_beside_es256(op: Op) -> None:
    keys = op.jwks()["keys"]
    assert {key["alg"] for key in keys} == {"RS256", "ES256"}
    assert len({key["kid"] for key in keys}) == len(keys)
    assert all(set(key) <= {"kty", "crv", "n", "e", "x", "y", "kid", "use", "alg"} for key in keys)
    assert all(key["use"] == "sig" for key in keys)


def test_config_every_token_names_a_published_key(op: Op) -> None:
    tokens = op.tokens()
    published = {key["kid"] for key in op.jwks()["keys"]}
    assert {header(tokens[name])["kid"] for name in ("id_token", "access_token")} <= published
