"""What an app says to the token endpoint of a town."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import urlencode

from werkzeug.test import TestResponse

from broker.testing.town import Town

CALLBACK = "https://app.test/callback/acme"
VERIFIER = "a-verifier-of-forty-three-characters-or-more-x"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
BASIC = "Basic " + base64.b64encode(b"demo:demo-app-secret-91f0c6d3").decode()


def authorize_url(town: Town, **more: str) -> str:
    parameters = {
        "response_type": "code", "client_id": "demo", "redirect_uri": CALLBACK, "scope": "openid email offline_access",
        "state": "some state", "nonce": "some nonce", "code_challenge": CHALLENGE, "code_challenge_method": "S256",
    }  # fmt: skip
    return f"{town.broker.base}/t/acme/authorize?{urlencode({**parameters, **more})}"


def token(town: Town, **form: str) -> TestResponse:
    if form.get("grant_type") == "authorization_code":
        form = {"redirect_uri": CALLBACK, "code_verifier": VERIFIER} | form
    headers = {"Authorization": BASIC, "Content-Type": "application/x-www-form-urlencoded"}
    return town.world.send("POST", f"{town.broker.base}/t/acme/token", headers=headers, body=urlencode(form).encode())
