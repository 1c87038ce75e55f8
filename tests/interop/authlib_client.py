"""Authlib as a client: tokens of its own, a user's pair, refreshing, asking, taking back."""

import os

import requests
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session

SERVER, ID, SECRET = (os.environ[name] for name in ("COUNTERFOIL", "CLIENT_ID", "CLIENT_SECRET"))

metadata = requests.get(SERVER + "/.well-known/oauth-authorization-server").json()
assert metadata["issuer"] == SERVER, metadata
TOKEN, INTROSPECT, REVOKE = (metadata[name + "_endpoint"] for name in ("token", "introspection", "revocation"))


def ask(session, token):
    answer = session.introspect_token(INTROSPECT, token=token)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(code, call, *arguments, **options):
    try:
        answer = call(*arguments, **options)
    except OAuthError as error:
        assert error.error == code, error
    else:
        raise AssertionError(f"{answer} in place of {code}")


for method in metadata["token_endpoint_auth_methods_supported"]:
    session = OAuth2Session(ID, SECRET, token_endpoint_auth_method=method)
    own = session.fetch_token(TOKEN, grant_type="client_credentials", scope="notes:read tokens:issue")
    assert own["token_type"] == "Bearer" and own["scope"] == "notes:read tokens:issue", own
    assert "refresh_token" not in own, own
    # The session shows its token by itself.
    assert session.get(SERVER + "/protected").json() == {"hello": "world"}

    told = ask(session, own["access_token"])
    assert told["active"] is True and told["client_id"] == told["sub"] == ID, told
    assert told["token_type"] == "Bearer" and told["iss"] == SERVER and "username" not in told, told

    issued = session.post(SERVER + "/tokens", json={"subject": "alice", "scope": "cart:read cart:write"})
    assert issued.status_code == 201, issued.text
    pair = issued.json()
    told = ask(session, pair["access_token"])
    assert told["username"] == told["sub"] == "alice" and told["scope"] == "cart:read cart:write", told
    assert ask(session, pair["refresh_token"])["token_type"] == "N_A"

    session.token = pair
    narrow = session.refresh_token(TOKEN, refresh_token=pair["refresh_token"], scope="cart:read")
    assert narrow["refresh_token"] != pair["refresh_token"] and narrow["scope"] == "cart:read", narrow
    assert ask(session, narrow["access_token"])["active"] is True
    last = session.refresh_token(TOKEN, refresh_token=narrow["refresh_token"])
    # Two hold what one should: the whole session ends.
    refused("invalid_grant", session.refresh_token, TOKEN, refresh_token=pair["refresh_token"])
    assert ask(session, last["access_token"]) == {"active": False}
    refused("invalid_grant", session.refresh_token, TOKEN, refresh_token=last["refresh_token"])

    for hint in ("access_token", "refresh_token"):  # a wrong hint makes no difference
        assert session.revoke_token(REVOKE, token=own["access_token"], token_type_hint=hint).status_code == 200
    assert ask(session, own["access_token"]) == {"active": False}

stranger = OAuth2Session(ID, "wrong", token_endpoint_auth_method="client_secret_basic")
refused("invalid_client", stranger.fetch_token, TOKEN, grant_type="client_credentials")
refused("invalid_scope", session.fetch_token, TOKEN, grant_type="client_credentials", scope="registry:admin")
refused("unsupported_grant_type", session.fetch_token, TOKEN, grant_type="password", username="a", password="b")
print("done")
