"""What the provider says about itself: OIDC Discovery 1.0 and RFC 8414, one document for both.

Nothing stands here that does not work.
"""

from __future__ import annotations

import json
from typing import Any

from broker.core.claims import SCOPES, SUPPORTED
from broker.core.tenant import Tenant
from broker.oidc.requests import PROMPTS
from broker.oidc.signing import ALGORITHMS
from broker.oidc.tokens import LOWEST_ACR


def document(tenant: Tenant) -> bytes:
    """JSON, the same bytes as long as the configuration is the same."""
    return json.dumps(_fields(tenant), separators=(",", ":")).encode()


def _fields(tenant: Tenant) -> dict[str, Any]:
    issuer, with_secret = tenant.issuer, ["client_secret_basic", "client_secret_post"]
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "userinfo_endpoint": f"{issuer}/userinfo",
        "jwks_uri": f"{issuer}/jwks",
        "revocation_endpoint": f"{issuer}/revoke",
        "introspection_endpoint": f"{issuer}/introspect",
        "end_session_endpoint": f"{issuer}/end-session",
        "scopes_supported": ["openid", *SCOPES, "offline_access"],
        "claims_supported": list(SUPPORTED),
        "claim_types_supported": ["normal"],
        "claims_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "require_request_uri_registration": False,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": sorted(PROMPTS),
        "display_values_supported": ["page"],
        "acr_values_supported": [LOWEST_ACR],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": list(ALGORITHMS),
        "token_endpoint_auth_methods_supported": [*with_secret, "none"],
        "revocation_endpoint_auth_methods_supported": [*with_secret, "none"],
        "introspection_endpoint_auth_methods_supported": with_secret,
        "authorization_response_iss_parameter_supported": True,
        "ui_locales_supported": list(tenant.languages),
    }
