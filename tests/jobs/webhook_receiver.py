"""An HTTP server that receives webhooks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.http_listener import listening

SendAnswer = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class ReceivedRequest:
    path: str
    headers: Mapping[str, str]
    body: bytes


def answer_status(code: int, **headers: str) -> SendAnswer:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"content-length": "0", **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()

    return send


class WebhookReceiver:
    """`WebhookReceiver` records the requests that it gets.

    answers: the answers to the first requests, in order; later requests get status 204.
    """

    def __init__(self, *answers: SendAnswer, port: int = 0) -> None:
        self.answers, self.received = list(answers), list[ReceivedRequest]()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(ReceivedRequest(self.path, headers, body))
                (receiver.answers.pop(0) if receiver.answers else answer_status(204))(self)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    @contextmanager
    def listening(self) -> Iterator["WebhookReceiver"]:
        with listening(self._server):
            yield self
