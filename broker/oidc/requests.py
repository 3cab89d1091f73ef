"""Authorization requests: everything about them that Authlib lets through.

It does not look at `response_mode`, `max_age`, `claims`, request objects, unknown prompts or sizes, and it raises
`ValueError` when it wants to quote a parameter with an umlaut in an error. So a request is checked here first, and what
reaches Authlib is known to be one value each, of a client and a redirect URI that are known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from authlib.oauth2 import OAuth2Error, OAuth2Request
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload

from broker.core.errors import BadRequest
from broker.core.tenant import Client, Tenant
from broker.core.values import ClientId, Grant, User
from broker.oidc.clients import may_return_to
from broker.oidc.messages import MAX_STATE, Parameters, Request
from broker.oidc.tokens import LOWEST_ACR, wanted_acr

KNOWN = frozenset({
    "client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce", "prompt", "max_age",
    "claims", "acr_values", "display", "id_token_hint", "login_hint", "ui_locales", "claims_locales",
    "code_challenge", "code_challenge_method", "connection", "screen_hint",
})  # fmt: skip
"""What we read. Everything else is ignored (RFC 6749 3.1), and not kept."""
KEPT = KNOWN - {"id_token_hint", "response_mode", "claims_locales"}
DECIDES_WHERE = ("client_id", "redirect_uri", "state", "response_mode")
"""With two of one of these, no answer to the app would be right: the person sees our own error page."""
NOT_SUPPORTED = ("request", "request_uri", "registration")
PROMPTS = frozenset({"none", "login", "consent", "select_account"})
MAX_CLAIMS = 64
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_SCOPE = re.compile(r"[!#-\[\]-~]+( [!#-\[\]-~]+)*", re.ASCII)
# The address is Authlib's alone, which refuses plain http elsewhere than on loopback. Whether a deployment has TLS was
# decided by its configuration, and behind a proxy the request line does not tell.
_PLACE = "https://localhost/"


_BLANK = dict(vars(OAuth2Request("POST", _PLACE)))


class Message(OAuth2Request):
    """A request as Authlib reads it: its parameters, and what our grants learn on the way."""

    def __init__(self, method: str, parameters: Mapping[str, str], authorization: str | None = None) -> None:
        # Authlib's constructor, which looks at the address each time, and at the environment for how to look.
        self.__dict__.update(_BLANK)
        self.method, self.headers = method, {"Authorization": authorization} if authorization else {}
        self._parameters = dict(parameters)
        self.payload = BasicOAuth2Payload(self._parameters)
        self.redeemed: Grant | None = None
        """The grant behind a code or refresh token that this request has used up."""
        self.next_refresh: str | None = None
        """The refresh token for the answer: the first of its family, or the one that took the place of what came."""
        self.person: User | None = None

    @property
    def args(self) -> dict[str, str | None]:
        return {}

    @property
    def form(self) -> dict[str, str]:
        return self._parameters


def refuse(error: str, description: str) -> OAuth2Error:
    """An error for the app; `description` is ASCII (RFC 6749 4.1.2.1)."""
    return OAuth2Error(error=error, description=description)


def sent(request: Request) -> Parameters:
    """The parameters of an authorization request, by GET or POST (OIDC Core 3.1.2.1). Raises `BadRequest`."""
    return Parameters([*request.form, *request.query] if request.method == "POST" else request.query)


def addressee(tenant: Tenant, parameters: Parameters) -> Client:
    """The client, after making sure that it may be answered at its redirect URI.

    Raises `BadRequest`: an unknown client or address is never redirected to (RFC 6749 4.1.2.1, RFC 9700 4.11).
    """
    for name in DECIDES_WHERE:
        if name in parameters.twice:
            raise BadRequest(f"{name} is there twice", code="request.duplicate")
    client = tenant.clients.get(ClientId(parameters.get("client_id", "")))
    if client is None:
        raise BadRequest("no such client", code="client.unknown")
    redirect_uri = parameters.get("redirect_uri")
    if redirect_uri is None:
        raise BadRequest("redirect_uri is missing", code="redirect_uri.missing", app=client.client_name)
    if not may_return_to(client, redirect_uri):
        raise BadRequest(redirect_uri, code="redirect_uri.unknown", app=client.client_name)
    if len(parameters.get("state", "")) > MAX_STATE:
        raise BadRequest(f"state has more than {MAX_STATE} characters", code="request.too_large")
    return client


def check(parameters: Parameters) -> dict[str, str]:
    """The parameters to keep. Raises `OAuth2Error` for the app."""
    for name in NOT_SUPPORTED:
        if name in parameters:
            raise refuse(f"{name}_not_supported", f"The parameter {name} is not supported")
    if repeated := sorted(parameters.twice & KNOWN):
        raise refuse("invalid_request", f"The parameter {repeated[0]} is there more than once")
    kept = {name: value for name, value in parameters.items() if name in KEPT}
    for name, value in kept.items():
        if name not in ("claims", "redirect_uri") and len(value) > MAX_STATE:
            raise refuse("invalid_request", f"The parameter {name} is too long")
    _check_response(parameters)
    _check_scope(kept.get("scope", ""))
    _check_prompt(kept.get("prompt", ""))
    if "max_age" in kept and not _SECONDS.fullmatch(kept["max_age"]):
        raise refuse("invalid_request", "max_age is not a number of seconds")
    if "claims" in kept:
        claims = read_claims(kept["claims"])
        _check_acr(claims)
        kept["claims"] = json.dumps(claims, separators=(",", ":"))
        subject = (claims.get("id_token", {}).get("sub") or {}).get("value")
        if isinstance(subject, str):
            kept["hinted_subject"] = subject
    return kept


def _check_response(parameters: Parameters) -> None:
    if "response_type" not in parameters:
        raise refuse("invalid_request", "response_type is missing")
    if parameters["response_type"] != "code":
        raise refuse("unsupported_response_type", "The response_type must be code")
    if parameters.get("response_mode", "query") != "query":
        raise refuse("invalid_request", "The response_mode must be query")


def _check_scope(scope: str) -> None:
    if scope and not _SCOPE.fullmatch(scope):
        raise refuse("invalid_scope", "scope is not a list of names separated by single spaces")


def _check_prompt(prompt: str) -> None:
    prompts = prompt.split()
    if not PROMPTS.issuperset(prompts):
        raise refuse("invalid_request", "prompt has an unknown value")
    if "none" in prompts and len(set(prompts)) > 1:
        raise refuse("invalid_request", "prompt none cannot be combined with another value")


def read_claims(text: str) -> dict[str, dict[str, Any]]:
    """A `claims` parameter (OIDC Core 5.5): what it asks for in the ID token and at userinfo. Raises `OAuth2Error`."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise refuse("invalid_request", "claims is not JSON") from None
    if not isinstance(value, dict):
        raise refuse("invalid_request", "claims is not a JSON object")
    found = {}
    for place in ("id_token", "userinfo"):
        members = value.get(place)
        if members is None:
            continue
        if not isinstance(members, dict) or len(members) > MAX_CLAIMS:
            raise refuse("invalid_request", f"claims: {place} is not an object of at most {MAX_CLAIMS} members")
        found[place] = {name: _read_demand(demand) for name, demand in members.items()}
    return found


def _read_demand(demand: object) -> dict[str, Any] | None:
    """One member of `claims`. Unknown members of it are ignored (OIDC Core 5.5.1)."""
    if demand is None:
        return None
    if not isinstance(demand, dict):
        raise refuse("invalid_request", "claims: a claim is asked for by null or an object")
    if not isinstance(demand.get("essential", False), bool) or not isinstance(demand.get("values", []), list):
        raise refuse("invalid_request", "claims: essential is a boolean, values is an array")
    return {name: demand[name] for name in ("essential", "value", "values") if name in demand}


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _check_acr(claims: Mapping[str, Any]) -> None:
    """An essential `acr` is met or refused, never passed over (OIDC Core 5.5.1.1)."""
    wanted = wanted_acr(claims)
    demand = claims.get("id_token", {}).get("acr") or {}
    if demand.get("essential") and wanted and LOWEST_ACR not in wanted:
        raise refuse("unmet_authentication_requirements", "None of the essential acr values can be met")
