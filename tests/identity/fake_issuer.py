"""An issuer of OpenID Connect on loopback, with real keys and a login at which everybody is let in."""

import json
import secrets
import time
from base64 import b64decode, urlsafe_b64encode
from functools import cache
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

AUDIENCE = "segserve"
CLIENT = "segserve page"
CLIENT_SECRET = "s3cret / ü"
CALLBACK = "/v1/login/issuers/{}/callback"


@cache
def rsa_key(number: int, bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


class FakeIssuer(ThreadingHTTPServer):
    """It publishes a discovery document and the public halves of `keys`, by their ids.

    fetched: paths that were asked for. documents: what is answered in place of its own. status: of every answer.
    metadata: added to its discovery document.

    name: by which the service knows it, and sends people back. secret: of its client, None for a public one. signed_in:
    claims of the ID tokens that differ from those of `claims`. answer_with: parameters of the next answers in place of
    a code. codes: those that were given out and not used, with what was asked for. posted: forms that came for tokens.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.keys: dict[str, Any] = {
            "rsa": rsa_key(1),
            "ec": ec.generate_private_key(ec.SECP256R1()),
            "ed": ed25519.Ed25519PrivateKey.generate(),
        }
        self.fetched: list[str] = []
        self.documents: dict[str, bytes] = {}
        self.status = 200
        self.metadata: dict[str, Any] = {"authorization_response_iss_parameter_supported": True}
        self.name = "Fake"
        self.secret: str | None = None
        self.signed_in: dict[str, Any] = {}
        self.answer_with: dict[str, str] | None = None
        self.codes: dict[str, dict[str, str]] = {}
        self.posted: list[dict[str, str]] = []

    def jwks(self) -> dict[str, Any]:
        writers: dict[Any, Any] = {
            rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
            ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
            ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
        }
        keys = []
        for key_id, key in self.keys.items():
            writer = next(writer for kind, writer in writers.items() if isinstance(key, kind))
            keys.append({**writer.to_jwk(key.public_key(), as_dict=True), "kid": key_id, "use": "sig"})
        return {"keys": keys}

    def answer(self, path: str) -> bytes:
        self.fetched.append(path)
        if path in self.documents:
            return self.documents[path]
        if path == "/keys":
            return json.dumps(self.jwks()).encode()
        return json.dumps(
            {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                **self.metadata,
            }
        ).encode()

    def authorize(self, asked: dict[str, str]) -> str | None:
        """Return where a browser is sent back to; None for a request that no issuer answers."""
        redirect = urlsplit(asked.get("redirect_uri", ""))
        is_registered = redirect.path == CALLBACK.format(self.name) and redirect.scheme == "http"
        is_complete = asked.get("response_type") == "code" and "openid" in asked.get("scope", "").split()
        has_challenge = asked.get("code_challenge_method") == "S256" and asked.get("code_challenge")
        if asked.get("client_id") != CLIENT or not (is_registered and is_complete and has_challenge):
            return None
        if self.answer_with is None:
            code = secrets.token_urlsafe()
            self.codes[code] = asked
            answer = {"code": code}
        else:
            answer = self.answer_with
        back = {**answer, "state": asked["state"], "iss": self.url}
        return f"{asked['redirect_uri']}?{urlencode({k: v for k, v in back.items() if v})}"

    def exchange(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """Return the answer to a form that asks for the tokens of a code, which counts once."""
        self.posted.append(form)
        scheme, _, pair = authorization.partition(" ")
        client, _, secret = b64decode(pair).decode().partition(":") if scheme == "Basic" else ("", "", "")
        client = unquote_plus(client) or form.get("client_id", "")
        secret = unquote_plus(secret) or form.get("client_secret", "")
        if (client, secret) != (CLIENT, self.secret or ""):
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=")
        if (
            asked is None
            or form.get("grant_type") != "authorization_code"
            or form.get("redirect_uri") != asked["redirect_uri"]
            or challenge.decode() != asked["code_challenge"]
        ):
            return 400, {"error": "invalid_grant", "error_description": "the code is worn"}
        claims = {"aud": CLIENT, "nonce": asked["nonce"], **self.signed_in}
        return 200, {"access_token": "opaque", "token_type": "Bearer", "id_token": self.token(**claims)}

    def claims(self, **changed: Any) -> dict[str, Any]:
        """The claims of a good token. changed: None leaves a claim out."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "anna",
            "iat": now,
            "exp": now + 600,
            "tenant": "lab-a",
            "role": "annotator",
            **changed,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, key_id: str = "rsa", algorithm: str = "RS256", headers: Any = None, **claims: Any) -> str:
        """A signed token. headers: added to its own."""
        return jwt.encode(
            self.claims(**claims),
            self.keys[key_id],
            algorithm=algorithm,
            headers={"kid": key_id, **(headers or {})},
        )


class Handler(BaseHTTPRequestHandler):
    server: FakeIssuer

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path == "/authorize":
            back = self.server.authorize(dict(parse_qsl(address.query)))
            self._answer(400 if back is None else 303, b"", Location=back or "")
        else:
            self._answer(self.server.status, self.server.answer(self.path))

    def do_POST(self) -> None:
        form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        status, answer = self.server.exchange(form, self.headers.get("Authorization", ""))
        self._answer(status, json.dumps(answer).encode())

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
