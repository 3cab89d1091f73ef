"""OAuth 2.0 towards upstream providers: Authlib builds the messages, the Fetcher carries them."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote_plus

from authlib.common.urls import add_params_to_qs
from authlib.oauth2 import OAuth2Client, OAuth2Error

from broker.core.errors import ConnectionFailed
from broker.core.ports import Fetcher, Response

AUTH_METHODS = ("client_secret_basic", "client_secret_post", "none")
_OURS = frozenset(
    {"client_id", "redirect_uri", "response_type", "scope", "state", "code_challenge", "code_challenge_method"}
    | {"code_verifier", "url", "uri"}  # names of Authlib's own arguments
)
# RFC 6749 5.2, and what GitHub calls the same things. All others mean that this one exchange cannot be trusted.
_MISCONFIGURED = frozenset(
    {
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "incorrect_client_credentials",
        "redirect_uri_mismatch",
    }
)


class AuthlibClients:
    """Implements `broker.core.ports.UpstreamClients`. Stateless: nothing is remembered between two calls."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    def authorization_url(
        self,
        endpoint: str,
        *,
        client_id: str,
        redirect_uri: str,
        scope: str,
        state: str,
        code_verifier: str | None,
        extra: Mapping[str, str],
    ) -> str:
        """Where to send the browser: code flow, PKCE by S256 when there is a verifier (RFC 7636).

        `extra` are further parameters, such as `nonce`; those named above cannot be replaced by it.
        Raises `ConnectionFailed("connection.misconfigured")`.
        """
        clash = _OURS & extra.keys()
        if clash:
            raise ConnectionFailed(f"extra parameters: {', '.join(sorted(clash))}", code="connection.misconfigured")
        client = OAuth2Client(None, client_id=client_id, scope=scope or None, redirect_uri=redirect_uri)
        client.code_challenge_method = "S256"
        try:
            url, _ = client.create_authorization_url(endpoint, state=state, code_verifier=code_verifier, **extra)
        except ValueError as error:
            raise ConnectionFailed(f"{endpoint}: {error}", code="connection.misconfigured") from error
        return str(url)

    def exchange(
        self,
        endpoint: str,
        *,
        client_id: str,
        client_secret: str | None,
        auth_method: str,
        code: str,
        redirect_uri: str,
        code_verifier: str | None,
    ) -> Mapping[str, Any]:
        """The token answer to a code: a JSON object with at least an access token or an ID token.

        Raises `ConnectionFailed`: `connection.unavailable` when there is no answer, `connection.misconfigured` when
        it says that our registration is wrong, `connection.invalid` for any other refusal.
        """
        if auth_method not in AUTH_METHODS:
            raise ConnectionFailed(f"no such auth_method: {auth_method}", code="connection.misconfigured")
        client = OAuth2Client(
            _Session(self._fetcher),
            client_id=client_id,
            client_secret=client_secret,
            token_endpoint_auth_method=auth_method,
            redirect_uri=redirect_uri,
        )
        client.register_client_auth_method(("client_secret_basic", _basic))
        try:
            token = client.fetch_token(
                endpoint, grant_type="authorization_code", code=code, code_verifier=code_verifier
            )
        except OAuth2Error as error:
            ours = str(error.error) in _MISCONFIGURED
            raise ConnectionFailed(
                f"{endpoint} answered {error.error}: {error.description}",
                code="connection.misconfigured" if ours else "connection.invalid",
            ) from error
        except ValueError as error:
            raise ConnectionFailed(f"{endpoint}: {error}", code="connection.invalid") from error
        if not any(isinstance(token.get(name), str) for name in ("access_token", "id_token")):
            raise ConnectionFailed(f"{endpoint} answered without a token", code="connection.invalid")
        return dict(token)


def _basic(client: Any, method: str, uri: str, headers: dict[str, str], body: str) -> tuple[str, dict[str, str], str]:
    """RFC 6749 2.3.1: both are form-encoded first. Authlib's own leaves that out, and fails beyond Latin-1."""
    credentials = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret or '')}"
    headers["Authorization"] = f"Basic {b64encode(credentials.encode('ascii')).decode('ascii')}"
    return uri, headers, body


class _Session:
    """The part of a `requests` session that Authlib's client calls."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    def post(self, url: str, *, data: Mapping[str, str], headers: Mapping[str, str], auth: Any) -> _Answer:
        url, prepared, body = auth.prepare("POST", url, dict(headers), add_params_to_qs("", list(data.items())))
        prepared.pop("Content-Type", None)  # the Fetcher encodes the form
        form = dict(parse_qsl(body, keep_blank_values=True))
        return _Answer(url, self._fetcher.post(url, form, headers=prepared))


class _Answer:
    """The part of a `requests` response that Authlib's client reads."""

    def __init__(self, url: str, response: Response) -> None:
        self._url = url
        self._response = response
        self.status_code = response.status

    def raise_for_status(self) -> None:
        """Called for server errors, and for errors that are no JSON."""
        if self.status_code >= 400:
            raise ConnectionFailed(f"{self._url} answered {self.status_code}")

    def json(self) -> Any:
        """Some providers answer in form encoding whatever they are asked for (GitHub did for years)."""
        kind = self._response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/x-www-form-urlencoded":
            return dict(parse_qsl(self._response.body.decode("utf-8")))
        return json.loads(self._response.body)
