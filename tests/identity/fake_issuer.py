"""An issuer of OpenID Connect on loopback, with real keys."""

import json
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

AUDIENCE = "segserve"


@cache
def rsa_key(number: int, bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


class FakeIssuer(ThreadingHTTPServer):
    """It publishes a discovery document and the public halves of `keys`, by their ids.

    fetched: paths that were asked for. documents: what is answered in place of its own. status: of every answer.
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
        return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()

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
        body = self.server.answer(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
