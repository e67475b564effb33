"""A relying party by Authlib: `authlib_party.py ISSUER CLIENT SECRET BACK`, as `openid_client.mjs`.

Where `DISCOVERY` is set, it reads there what the issuer can do.
"""

import json
import os
import sys

import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.jose import JsonWebKey, JsonWebToken
from authlib.oidc.core import CodeIDToken

issuer, client_id, secret, back = sys.argv[1:]
discovery = os.environ.get("DISCOVERY", "/.well-known/openid-configuration")
server = requests.get(issuer + discovery, timeout=20).json()
session = OAuth2Session(
    client_id,
    secret,
    scope="openid profile email offline_access",
    redirect_uri=back,
    code_challenge_method="S256",
    token_endpoint=server["token_endpoint"],
)
verifier = "a verifier that nobody guesses, in letters alone".replace(" ", "-").replace(",", "")
nonce = "of this one request"
url, state = session.create_authorization_url(
    server["authorization_endpoint"], code_verifier=verifier, nonce=nonce
)
print(json.dumps({"url": url}), flush=True)
came_back = sys.stdin.readline().strip()
token = session.fetch_token(authorization_response=came_back, code_verifier=verifier)
keys = JsonWebKey.import_key_set(requests.get(server["jwks_uri"], timeout=20).json())
claims = JsonWebToken(["EdDSA", "RS256"]).decode(
    token["id_token"],
    keys,
    claims_cls=CodeIDToken,
    claims_options={"iss": {"value": issuer}, "aud": {"value": client_id}},
    claims_params={"nonce": nonce, "client_id": client_id, "access_token": token["access_token"]},
)
claims.validate()
user = session.get(server["userinfo_endpoint"]).json()
refreshed = session.refresh_token(server["token_endpoint"], token["refresh_token"])
assert claims["sub"] == user["sub"], (claims, user)
assert refreshed["access_token"] != token["access_token"]
print(json.dumps({**user, "alg": claims.header["alg"], "token": token["access_token"]}), flush=True)
