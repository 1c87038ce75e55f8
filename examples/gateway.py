"""A gateway that keeps its own set of what was revoked, from the feed of a Counterfoil server.

    COUNTERFOIL=https://id.example CLIENT_ID=… CLIENT_SECRET=… python3 gateway.py

It needs nothing but Python's own library. It reads one access token a line from standard input, and answers "accept" or
"refuse". The client is one that has the scope `tokens:introspect`; its secret, unlike a token, doesn't expire while this
runs. A real gateway first verifies the token's signature, issuer, audience and times, for example with PyJWT and the
server's JWKS: this page is about what a signature can't tell, and reads claims without verifying them.
"""

import base64
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

SERVER = os.environ["COUNTERFOIL"].rstrip("/")
CLIENT = f"{os.environ['CLIENT_ID']}:{os.environ['CLIENT_SECRET']}"
OWN = "Basic " + base64.b64encode(CLIENT.encode()).decode()
SILENCE = 45  # seconds after which a silent stream vouches for nothing: three heartbeats
SLACK = 60  # seconds that clocks may differ


class Revocations:
    """What was revoked since it began, and who was asked about since then."""

    def __init__(self):
        self.lock = threading.Lock()
        self.forget()

    def forget(self):
        """Trusts nothing: as at the beginning, and when events were missed."""
        with self.lock:
            self.revoked, self.vouched, self.next = {}, {}, None
            self.began, self.heard = time.time(), float("-inf")

    def apply(self, event):
        name = next(name for name in ("jti", "sid", "sub", "kid") if name in event)
        key = (name, event[name])
        if event["action"] == "unrevoked":
            self.revoked.pop(key, None)
        else:
            before, exp = self.revoked.get(key, (0, 0))
            self.revoked[key] = (max(before, event.get("before", 0)), max(exp, event["exp"]))

    def take(self, events, next):
        with self.lock:
            for event in events:
                self.apply(event)
            self.next, self.heard = next, time.monotonic()
            for kept in (self.revoked, self.vouched):
                for key in [key for key, (_, exp) in kept.items() if exp + SLACK < time.time()]:
                    del kept[key]

    def refuses(self, claims, kid):
        sid = claims.get("sid", claims["jti"])  # a token without one is its own session
        if any(key in self.revoked for key in (("jti", claims["jti"]), ("sid", sid), ("kid", kid))):
            return True
        before, _ = self.revoked.get(("sub", claims["sub"]), (0, 0))
        # A session's id says when it began: a UUID of version 7. Others are revoked one by one.
        return sid[14] == "7" and int(sid[:8] + sid[9:13], 16) / 1000 < before

    def allows(self, token):
        head, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
        with self.lock:
            if self.refuses(claims, head["kid"]) or claims["exp"] <= time.time():
                return False
            is_current = time.monotonic() - self.heard < SILENCE
            is_known = claims["iat"] > self.began + SLACK or claims["jti"] in self.vouched
            began = self.began
        if is_current and is_known:
            return True
        # It may have been revoked before this set began: the server is asked once, and what comes later is told.
        if not ask(token, claims):
            return False
        with self.lock:
            if is_current and began == self.began:
                self.vouched[claims["jti"]] = (0, claims["exp"])
            return not self.refuses(claims, head["kid"])

    def follow(self):
        """Keeps the set, for ever: what it missed first, then what comes."""
        while True:
            try:
                page = {"events": [None]}
                while page["events"]:
                    after = "" if self.next is None else f"?after={self.next}"
                    with request(f"/revocations{after}") as answer:
                        page = json.load(answer)
                    self.take(page["events"], page["next"])
                with request("/revocations/stream", {"Last-Event-ID": str(self.next)}) as stream:
                    print(f"follows the feed after {self.next}", file=sys.stderr, flush=True)
                    self.read(stream)
            except urllib.error.HTTPError as error:
                if error.code == 410:
                    self.forget()
                    continue
                print(f"the feed answers {error.code}", file=sys.stderr)
            except (OSError, ValueError) as error:
                print(f"the feed is away: {error}", file=sys.stderr)
            time.sleep(1)

    def read(self, stream):
        data, last = "", self.next
        for line in stream:
            field, _, value = line.decode().rstrip("\r\n").partition(":")
            if field == "data":
                data += value.removeprefix(" ")
            elif field == "id":
                last = int(value)
            elif not field and not value:  # the end of an event, or of a heartbeat
                self.take([json.loads(data)] if data else [], last)
                data = ""


def request(path, headers=None, authorization=OWN):
    headers = {"Authorization": authorization} | (headers or {})
    return urllib.request.urlopen(urllib.request.Request(SERVER + path, headers=headers), timeout=SILENCE)


def ask(token, claims):
    audience = claims["aud"] if isinstance(claims["aud"], str) else claims["aud"][0]
    path = "/auth/check?audience=" + urllib.parse.quote(audience, safe="")
    try:
        with request(path, authorization=f"Bearer {token}") as answer:
            return answer.status == 204
    except OSError:  # refused, or nobody can tell
        return False


if __name__ == "__main__":
    revocations = Revocations()
    threading.Thread(target=revocations.follow, daemon=True).start()
    for line in sys.stdin:
        print("accept" if revocations.allows(line.strip()) else "refuse", flush=True)
