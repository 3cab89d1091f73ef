"""A trivial OpenID provider with canned answers: the yardstick for the driver's own speed, and, with a fault, for its honesty.

    stub.py PORT [FAULT]

It checks nothing and hashes nothing; the code carries the nonce. Each FAULT makes one answer wrong, and a driver that does
not report an error is broken.
"""

import base64
import json
import re
import select
import socket
import sys
import time
from urllib.parse import parse_qs, quote

FAULTS = (
    "state",
    "iss",
    "nonce",
    "audience",
    "subject",
    "no-id-token",
    "no-code",
    "refuses-password",
    "accepts-any-password",
    "other-host",
    "server-error",
    "bad-issuer",
    "private-jwks",
    "cut-off",
)
FILLER = "<p>" + "lorem ipsum " * 100 + "</p>"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)


def message(status: str, body: str = "", *headers: str, kind: str = "application/json") -> bytes:
    """A whole HTTP response."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


class Stub:
    """The answers."""

    def __init__(self, port: int, fault: str = ""):
        self.issuer, self.fault = f"http://127.0.0.1:{port}", fault
        here = self.issuer
        self.canned = {
            "/.well-known/openid-configuration": message(
                "200 OK",
                json.dumps(
                    {
                        "issuer": "http://elsewhere" if fault == "bad-issuer" else here,
                        "authorization_endpoint": here + "/authorize",
                        "token_endpoint": here + "/token",
                        "userinfo_endpoint": here + "/userinfo",
                        "jwks_uri": here + "/jwks",
                        "authorization_response_iss_parameter_supported": True,
                        "filler": "x" * 1500,
                    }
                ),
            ),
            "/jwks": message(
                "200 OK",
                json.dumps(
                    {
                        "keys": [
                            {"kty": "oct", "k": "c2VjcmV0"}
                            if fault == "private-jwks"
                            else {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43, "kid": "1"}
                        ]
                    }
                ),
            ),
            "/userinfo": message("200 OK", json.dumps({"sub": "mallory" if fault == "subject" else "ada"})),
            "/forgot": message(
                "200 OK", self.page("forgot", '<input name="address" autocomplete="username">'), kind="text/html"
            ),
        }

    def page(self, name: str, fields: str, action: str = "") -> str:
        """A form page."""
        return (
            f'<!doctype html><body data-page="{name}">{FILLER}<form method="post" action="{action}">{fields}'
            f'<input type="hidden" name="csrf" value="a&amp;b"><button>Continue</button></form>{FILLER}'
        )

    def answer(self, method: str, target: str, body: str) -> bytes:
        """The response to one request."""
        path, _, query = target.partition("?")
        if self.fault == "server-error" and path not in self.canned:
            return message("500 Oops")
        if self.fault == "cut-off" and path == "/token":
            return message("200 OK", "x" * 99)[:-20]
        if path == "/authorize":
            ask = parse_qs(query)
            return message(
                "302 Found",
                "",
                f"Location: /login?state={ask['state'][0]}&nonce={ask['nonce'][0]}&to={quote(ask['redirect_uri'][0], '')}",
                "Set-Cookie: visit=1; Path=/; HttpOnly; SameSite=Lax",
            )
        if path == "/login" and method == "GET":
            return message(
                "200 OK",
                self.page(
                    "login",
                    '<input name="u" autocomplete="username"><input name="p" type="password" autocomplete="current-password">'
                    f'<input type="hidden" name="q" value="{query.replace("&", "&amp;")}">',
                ),
                kind="text/html",
            )
        if path == "/login":
            given = parse_qs(body)
            ask = parse_qs(given["q"][0])
            if (
                given.get("csrf") != ["a&b"]
                or self.fault == "refuses-password"
                or (given["p"][0].startswith("wrong-") and self.fault != "accepts-any-password")
            ):
                return message(
                    "200 OK",
                    self.page(
                        "login",
                        '<input name="p" type="password">'
                        f'<input type="hidden" name="q" value="{given["q"][0].replace("&", "&amp;")}">',
                    ),
                    kind="text/html",
                )
            state = "other" if self.fault == "state" else ask["state"][0]
            issuer = "http://elsewhere" if self.fault == "iss" else self.issuer
            code = "" if self.fault == "no-code" else f"code={ask['nonce'][0]}&"
            to = "http://127.0.0.1:1/phish" if self.fault == "other-host" else ask["to"][0]
            return message("303 See Other", "", f"Location: {to}?{code}state={state}&iss={quote(issuer, '')}")
        if path == "/token":
            given = parse_qs(body)
            claims = {
                "iss": self.issuer,
                "sub": "ada",
                "aud": "other" if self.fault == "audience" else "bench",
                "exp": time.time() + 60,
                "nonce": "other" if self.fault == "nonce" else given.get("code", [""])[0],
            }
            token = "e30." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + ".c2ln"
            reply = {
                "access_token": f"a{time.perf_counter_ns()}",
                "token_type": "Bearer",
                "refresh_token": f"r{time.perf_counter_ns()}",
            }
            return message("200 OK", json.dumps(reply if self.fault == "no-id-token" else reply | {"id_token": token}))
        return self.canned.get(path) or message("404 Not Found")


def serve(port: int, fault: str) -> None:
    """Answer until killed; one thread, whole requests only."""
    stub, listener, poll = Stub(port, fault), socket.create_server(("127.0.0.1", port), backlog=256), select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    print("ready", flush=True)
    peers: dict[int, tuple[socket.socket, bytes]] = {}
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                peer, _ = listener.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[peer.fileno()] = peer, b""
                poll.register(peer.fileno(), select.EPOLLIN)
                continue
            peer, data = peers[descriptor]
            try:
                got = peer.recv(65536)
            except ConnectionResetError:
                got = b""
            data += got
            head = data.find(b"\r\n\r\n") + 4
            if not got:
                del peers[descriptor]
                peer.close()
            elif head < 4 or len(data) < head + int((LENGTH.search(data, 0, head) or [0, 0])[1]):
                peers[descriptor] = peer, data
            else:
                peers[descriptor] = peer, b""
                line = data[: data.find(b"\r")].decode().split(" ")
                reply = stub.answer(line[0], line[1], data[head:].decode())
                peer.sendall(reply)
                if fault == "cut-off" and line[1] == "/token":
                    del peers[descriptor]
                    peer.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
