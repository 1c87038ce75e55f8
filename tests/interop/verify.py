"""PyJWT as a service that verifies by the published keys: one token a line, "accept" or why not."""

import os
import sys

import jwt

SERVER, ALGORITHM, AUDIENCE = (os.environ[name] for name in ("COUNTERFOIL", "ALGORITHM", "AUDIENCE"))
keys = jwt.PyJWKClient(SERVER + "/.well-known/jwks.json")
required = ["exp", "nbf", "iat", "iss", "aud", "sub", "jti"]

for line in sys.stdin:
    token = line.strip()
    try:
        key = keys.get_signing_key_from_jwt(token)
        read = jwt.decode_complete(
            token, key, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=SERVER, options={"require": required}
        )
        print("accept" if read["header"]["typ"] == "at+jwt" else "type", flush=True)
    except jwt.InvalidAudienceError:
        print("audience", flush=True)
    except jwt.PyJWKClientError:
        print("key", flush=True)
    except jwt.InvalidSignatureError:
        print("signature", flush=True)
