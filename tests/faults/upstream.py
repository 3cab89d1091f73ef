"""An OpenID provider that leads to its sign-in page, as a process that can be frozen: `upstream.py PORT`."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(sys.argv[1])
ISSUER = f"http://127.0.0.1:{PORT}"
FOUND = {
    "issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/authorize", "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/jwks", "response_types_supported": ["code"], "subject_types_supported": ["public"],
    "id_token_signing_alg_values_supported": ["RS256"],
}  # fmt: skip


class Provider(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(FOUND if self.path.startswith("/.well-known") else {"keys": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


ThreadingHTTPServer(("127.0.0.1", PORT), Provider).serve_forever()
