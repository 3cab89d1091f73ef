"""Any OpenID provider: authorization code with PKCE and a nonce, and every check of OpenID Connect Core 3.1.3.7.

Most presets in connections/social are a settings class with defaults and one line more; the methods that say
"for presets" are what the others override.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256, sha384, sha512
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Field, model_validator

from broker.sdk import (
    Arrival,
    ConnectionFailed,
    Hint,
    Identity,
    Redirect,
    ResetHow,
    ResetPage,
    ServiceAddress,
    UpstreamSignOut,
    WebAddress,
    extend,
    wrong,
)
from connections.discovery import Discovery, ProviderMetadata, overlaid
from connections.upstream import LEEWAY, OAuthConnection, OAuthSettings, invalid, subject

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
_DIGESTS = {"256": sha256, "384": sha384, "512": sha512, "DSA": sha512, "519": sha512}
"""By the end of an algorithm's name (Core 3.1.3.6); Ed25519 is SHA-512."""
_LONGEST_ID_TOKEN = 6000
"""Characters of an ID token that is kept for signing out: it has to fit into an address."""


class OidcSettings(OAuthSettings):
    """An OpenID provider, described by its own discovery document."""

    comes_back_from_reset: ClassVar[bool] = True

    issuer: ServiceAddress
    """The provider, byte for byte as it calls itself in its tokens; a slash at the end counts."""
    jwks_uri: ServiceAddress | None = None
    """With `authorization_endpoint` and `token_endpoint`: nothing is discovered."""
    end_session_endpoint: WebAddress | None = None
    """Where people sign out, when it cannot be discovered."""
    algorithms: tuple[Algorithm, ...] = Field(default=("RS256", "ES256", "PS256", "EdDSA"), min_length=1)
    """Signatures that we accept on ID tokens. What the provider announces plays no part."""
    userinfo: bool = True
    """Whether the userinfo endpoint is asked for claims, where there is one."""
    tells_auth_time: bool = True
    """Whether the provider says in `auth_time` when somebody signed in there, as it must when asked with `max_age`
    (Core 2). Without it a demand for a fresh login is passed on, and nobody can tell whether it was met."""
    upstream_logout: bool = False
    """Whether signing out here signs out there as well."""

    @model_validator(mode="after")
    def _issuer_is_one(self) -> OidcSettings:
        if "?" in self.issuer:
            raise wrong("has a query; an issuer has none (OpenID Connect Discovery 3)", key="issuer")
        return self


S = TypeVar("S", bound=OidcSettings)


class OidcConnection(OAuthConnection[S], UpstreamSignOut, Generic[S]):
    """The protocol, for `oidc` and for every preset."""

    # --- Going there -----------------------------------------------------------------------------------------------

    def depart(self, state: str, return_url: str, hint: Hint) -> Redirect:
        return self._request(self.metadata().authorization_endpoint, state, return_url, self.wishes(hint))

    def _request(self, endpoint: str, state: str, return_url: str, wishes: Mapping[str, str]) -> Redirect:
        verifier, nonce = self.tools.entropy.token(48), self.tools.entropy.token(24)
        url = self.tools.upstream.authorization_url(
            endpoint,
            client_id=self.settings.client_id,
            redirect_uri=return_url,
            scope=self.settings.scope,
            state=state,
            code_verifier=verifier,
            extra={**self.settings.parameters, **wishes, "nonce": nonce},
        )
        started = str(int(self.tools.clock.now().timestamp()))
        return Redirect(url, {"verifier": verifier, "nonce": nonce, "issuer": self.settings.issuer, "started": started})

    def wishes(self, hint: Hint) -> dict[str, str]:
        """The hint as parameters of Core 3.1.2.1. For presets whose provider has other words for them."""
        found: dict[str, str] = {}
        prompts = ["login"] * hint.force_login + ["select_account"] * hint.select_account
        if prompts:
            found["prompt"] = " ".join(prompts)
        if hint.identifier:
            found["login_hint"] = hint.identifier
        if hint.language:
            found["ui_locales"] = hint.language
        if hint.max_age is not None:
            found["max_age"] = str(hint.max_age)
        elif hint.force_login and self.settings.tells_auth_time:
            # The same demand in the words that oblige the provider to say when the login was (Core 2, auth_time).
            found["max_age"] = "0"
        return found

    # --- Coming back -----------------------------------------------------------------------------------------------

    def arrive(self, arrival: Arrival) -> Identity:
        metadata, params, private = self.metadata(), arrival.params, arrival.private
        if private.get("issuer") != self.settings.issuer or not private.get("nonce") or not private.get("verifier"):
            raise invalid("no departure of ours, or one to another issuer")
        self._check_sender(metadata, params)
        if "error" in params:
            raise self.refused(params)
        token = self.tools.upstream.exchange(
            metadata.token_endpoint,
            client_id=self.settings.client_id,
            client_secret=self.secret,
            auth_method=self.auth_method(metadata.auth_methods),
            code=self.code_of(params),
            redirect_uri=arrival.return_url,
            code_verifier=private["verifier"],
        )
        claims = self._id_token(metadata, token, params, private)
        at = self._proved_at(claims, arrival)
        self.accept(claims)
        claims = {**claims, **self._userinfo(metadata, token, claims)}
        return Identity(
            connection=self.id,
            issuer=claims["iss"],
            subject=self.subject_of(claims),
            at=at,
            methods=_methods(claims.get("amr")),
            acr=claims["acr"] if isinstance(claims.get("acr"), str) else None,
            claims=self.claims_of(claims),
            private=self._kept(token),
        )

    def _check_sender(self, metadata: ProviderMetadata, params: Mapping[str, str]) -> None:
        """Whose answer this is, before anything in it is used: against mix-up (RFC 9207 2.4)."""
        said = params.get("iss")
        if said is None and metadata.names_itself:
            raise invalid("an answer without iss, from a provider that always sends it")
        if said is not None and not self.is_ours(said):
            raise invalid(f"an answer of {said[:200]!r}")

    def _id_token(
        self,
        metadata: ProviderMetadata,
        token: Mapping[str, Any],
        params: Mapping[str, str],
        private: Mapping[str, str],
    ) -> dict[str, Any]:
        """The verified claims. Raises `ConnectionFailed`."""
        raw = token.get("id_token")
        if not isinstance(raw, str):
            raise invalid("a token answer without ID token")
        issuer = self.issuer_of(raw)
        if params.get("iss") not in (None, issuer):
            raise invalid("the answer and the ID token name different issuers")
        claims = self.tools.verifier.verify(
            raw,
            jwks_uri=metadata.jwks_uri,
            issuer=issuer,
            audience=self.settings.client_id,
            algorithms=self.settings.algorithms,
        )
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), private["nonce"].encode()):
            raise invalid("the nonce is not the one that we sent")
        subject(claims.get("sub"))
        if "at_hash" in claims and "access_token" in token:
            self._check_at_hash(raw, claims["at_hash"], token["access_token"])
        return dict(claims)

    def _check_at_hash(self, raw: str, said: Any, access_token: Any) -> None:
        """The access token is the one that was issued with this ID token (Core 3.1.3.8)."""
        algorithm = str(unverified(raw, 0).get("alg"))
        digest = _DIGESTS[algorithm[-3:]](str(access_token).encode()).digest()
        right = urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=")
        if not isinstance(said, str) or not hmac.compare_digest(said.encode(), right):
            raise invalid("at_hash is not that of the access token")

    def _proved_at(self, claims: Mapping[str, Any], arrival: Arrival) -> datetime:
        """When the person signed in there; now, where the provider does not say.

        Raises `ConnectionFailed` when that was longer ago than the app allows: a provider may overlook `prompt` and
        `max_age`, and we must not pass an old login on as a fresh one.
        """
        now, hint = self.tools.clock.now(), arrival.hint
        said = claims.get("auth_time")
        if said is None:
            if self.settings.tells_auth_time and (hint.force_login or hint.max_age is not None):
                raise invalid("no auth_time, although a fresh login was asked for (Core 2)")
            return now
        if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said <= now.timestamp() + LEEWAY:
            raise invalid("auth_time is not a time, or not yet")
        started = _seconds(arrival.private.get("started"))
        if hint.force_login and (started is None or said < started - LEEWAY):
            raise invalid("a login from before it was asked for")
        # Measured from when we asked: somebody may take their time on the provider's pages after signing in.
        since = now.timestamp() if started is None else started
        if hint.max_age is not None and said < since - hint.max_age - LEEWAY:
            raise invalid("a login that is older than max_age")
        return min(now, datetime.fromtimestamp(said, UTC))

    def _userinfo(
        self, metadata: ProviderMetadata, token: Mapping[str, Any], claims: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Asked only after the ID token was found good; another subject's answer is refused (Core 5.3.2)."""
        if not self.settings.userinfo or metadata.userinfo_endpoint is None or "access_token" not in token:
            return {}
        found = self.userinfo_answer(metadata.userinfo_endpoint, token["access_token"])
        if not isinstance(found, dict) or found.get("sub") != claims["sub"]:
            raise invalid("userinfo speaks of somebody else")
        return {name: value for name, value in found.items() if name not in _PROTOCOL_CLAIMS}

    def _kept(self, token: Mapping[str, Any]) -> dict[str, str]:
        raw = str(token["id_token"])
        return {"id_token": raw} if self.settings.upstream_logout and len(raw) <= _LONGEST_ID_TOKEN else {}

    # --- For presets -------------------------------------------------------------------------------------------------

    @property
    def discovery_address(self) -> str:
        return self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration"

    @property
    def discovery_issuer(self) -> str:
        """What the discovery document must call itself."""
        return self.settings.issuer

    def is_ours(self, issuer: str) -> bool:
        """Whether an authorization response of this issuer may be an answer to us."""
        return issuer == self.settings.issuer

    def issuer_of(self, id_token: str) -> str:
        """What `iss` of this ID token has to be. The token is not verified yet: trust nothing in it."""
        return self.settings.issuer

    def accept(self, claims: Mapping[str, Any]) -> None:
        """Raises `ConnectionFailed` for somebody whom this connection does not let in. The claims are verified."""

    def subject_of(self, claims: Mapping[str, Any]) -> str:
        """What identifies the person for ever, within the issuer."""
        return subject(claims["sub"])

    # --- The provider ------------------------------------------------------------------------------------------------

    @property
    def home(self) -> str:
        return self.settings.issuer

    @cached_property
    def _discovery(self) -> Discovery:
        return Discovery(self.tools.fetcher, self.tools.clock, self.discovery_address, self.discovery_issuer)

    def metadata(self) -> ProviderMetadata:
        """Its endpoints: given, else discovered. Raises `ConnectionFailed`."""
        settings = self.settings
        if settings.authorization_endpoint and settings.token_endpoint and settings.jwks_uri:
            return ProviderMetadata(
                settings.authorization_endpoint,
                settings.token_endpoint,
                settings.jwks_uri,
                settings.userinfo_endpoint,
                settings.end_session_endpoint,
            )
        return overlaid(
            self._discovery.metadata(),
            authorization_endpoint=settings.authorization_endpoint,
            token_endpoint=settings.token_endpoint,
            jwks_uri=settings.jwks_uri,
            userinfo_endpoint=settings.userinfo_endpoint,
            end_session_endpoint=settings.end_session_endpoint,
        )

    def check_live(self) -> list[str]:
        try:
            jwks_uri = self.metadata().jwks_uri
            answer = self.tools.fetcher.get(jwks_uri)
        except ConnectionFailed as failure:
            return [failure.detail or failure.code]
        return [] if answer.status == 200 else [f"{jwks_uri} answered {answer.status}"]

    # --- Resetting and signing out there -----------------------------------------------------------------------------

    def reset_page(self, hint: str | None, state: str | None = None, return_url: str | None = None) -> ResetPage:
        facts = self.settings.effective_reset()
        page = facts.page(self.title, hint)
        if facts.how is not ResetHow.OIDC_FORGOT or facts.url is None or state is None or return_url is None:
            return page
        wishes = {facts.hint_parameter: hint} if facts.hint_parameter and hint else {}
        request = self._request(facts.url, state, return_url, wishes)
        return ResetPage(page.how, page.provider, request.url, page.text, request.private, page.change_only)

    def sign_out(self, identity: Identity, return_url: str, state: str) -> Redirect | None:
        """OpenID Connect RP-Initiated Logout 1.0. None where it is not wanted or not offered."""
        if not self.settings.upstream_logout:
            return None
        endpoint = self.metadata().end_session_endpoint
        if endpoint is None:
            return None
        sent = {
            "id_token_hint": identity.private.get("id_token"),
            "client_id": self.settings.client_id,
            "post_logout_redirect_uri": return_url,
            "state": state,
        }
        return Redirect(extend(endpoint, [(name, value) for name, value in sent.items() if value]))


class Oidc(OidcConnection[OidcSettings]):
    """`type: oidc`."""

    Settings = OidcSettings


_PROTOCOL_CLAIMS = frozenset(
    {
        "iss",
        "sub",
        "aud",
        "azp",
        "exp",
        "iat",
        "nbf",
        "nonce",
        "auth_time",
        "at_hash",
        "c_hash",
        "acr",
        "amr",
        "tid",
        "oid",
    }
)
"""What only the signed ID token may say."""


def unverified(token: str, part: int) -> dict[str, Any]:
    """The header (0) or payload (1) of a token. Never a reason to believe anything. Raises `ConnectionFailed`."""
    pieces = token.split(".")
    try:
        found = json.loads(urlsafe_b64decode(pieces[part] + "=" * (-len(pieces[part]) % 4)))
    except (ValueError, IndexError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise invalid("not a signed token")
    return found


def _methods(said: Any) -> tuple[str, ...]:
    """RFC 8176 values, as many as make sense."""
    if not isinstance(said, list):
        return ()
    return tuple(m for m in said[:10] if isinstance(m, str) and 0 < len(m) <= 32 and m.isascii() and m.isprintable())


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdecimal() else None
