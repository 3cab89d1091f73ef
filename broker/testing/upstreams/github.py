"""GitHub OAuth apps, by "Authorizing OAuth apps" and the REST API: no ID token, errors with status 200, two calls."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from flask import Flask, Response, jsonify, request

from broker.core.ports import Clock
from broker.testing.upstreams.provider import Registration, StandIn

_WORDS = {
    "invalid_client": ("incorrect_client_credentials", "The client_id and/or client_secret passed are incorrect."),
    "invalid_grant": ("bad_verification_code", "The code passed is incorrect or expired."),
}


class GitHubStandIn(StandIn):
    """github.com, or an Enterprise Server on `host`.

    A person's `claims` are the public profile (`login`, `name`, `email`, ...), and `emails`, the list of addresses.
    The subject is the number of the account.
    """

    name = "GitHub"
    reset_path = "/password_reset"

    def __init__(self, clock: Clock, client: Registration, host: str = "github.com") -> None:
        self.host = host
        self.hosts = ("github.com", "api.github.com") if host == "github.com" else (host,)
        self.api = "" if host == "github.com" else "/api/v3"
        self.scopes: dict[str, str] = {}
        super().__init__(clock, client)

    def routes(self, app: Flask) -> None:
        app.get("/login/oauth/authorize")(self.authorize)
        app.post("/login/oauth/authorize")(self.log_in)
        app.post("/login/oauth/access_token")(self.token)
        app.get(f"{self.api}/user")(self.user)
        app.get(f"{self.api}/user/emails")(self.emails)
        app.route(self.reset_path, methods=["GET", "POST"])(self.forgot)

    def cancelled(self) -> dict[str, str]:
        return {
            "error": "access_denied",
            "error_description": "The user has denied your application access.",
            "error_uri": "https://docs.github.com/apps/managing-oauth-apps/troubleshooting/",
        }

    def token(self) -> Response:
        code, error = self.redeem()
        if code is None:
            name, description = _WORDS[error]
            return self.in_their_format({"error": name, "error_description": description})
        token = "gho_" + self.entropy.token(27)
        self.tokens[token] = code
        granted = code.parameters.get("scope", "").replace(" ", ",")
        answer = {"access_token": token, "scope": granted, "token_type": "bearer"}
        return self.in_their_format(self.change_token(answer))

    def in_their_format(self, values: dict[str, Any]) -> Response:
        """A form unless JSON is asked for, and always 200."""
        if request.accept_mimetypes.best_match(["application/x-www-form-urlencoded", "application/json"]) == (
            "application/json"
        ):
            return jsonify(values)
        return Response(urlencode(values), content_type="application/x-www-form-urlencoded; charset=utf-8")

    def user(self) -> Any:
        code = self.bearer()
        if code is None:
            return jsonify(message="Requires authentication", status="401"), 401
        person = self.people[code.login.person]
        profile = {name: value for name, value in person.claims.items() if name != "emails"}
        login = profile.get("login", code.login.person)
        return jsonify(
            {
                "login": login,
                "id": int(person.subject),
                "node_id": "MDQ6VXNlcjE=",
                "avatar_url": f"https://avatars.githubusercontent.com/u/{person.subject}?v=4",
                "html_url": f"https://{self.host}/{login}",
                "type": "User",
                "site_admin": False,
                "name": None,
                "blog": "",
                "email": None,
                **profile,
            }
        )

    def emails(self) -> Any:
        code = self.bearer()
        if code is None:
            return jsonify(message="Requires authentication", status="401"), 401
        if "user:email" not in code.parameters.get("scope", "").split():
            return jsonify(message="Not Found", status="404"), 404
        return jsonify(self.people[code.login.person].claims.get("emails", []))
