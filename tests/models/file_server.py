"""A file server on this machine whose answers can be set: broken off, changed, refused, without a length."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.http_listener import listening

CONTENT = bytes(range(256)) * 4000


@dataclass
class FileServer:
    """The server's answers. requests: the headers of each request so far."""

    address: str = ""
    content: bytes = CONTENT
    files: dict[str, bytes] = field(default_factory=dict)  # by name, in place of content
    content_types: dict[str, str] = field(default_factory=dict)  # by name
    etag: str = '"1"'
    stop_after: int | None = None  # bytes of the body, then the connection breaks
    says_length: bool = True
    status: int = 200
    location: str = ""
    requests: list[dict[str, str]] = field(default_factory=list)

    def url(self, name: str = "model.pth") -> str:
        return f"{self.address}/{name}"


def make_handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests.append(dict(self.headers))
            if server.status != 200:
                self.send_response(server.status)
                if server.location:
                    self.send_header("Location", server.location)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = server.files.get(self.path[1:], server.content)
            start, total = 0, len(content)
            requested = self.headers.get("Range")
            if requested and self.headers.get("If-Range") == server.etag:
                start = int(requested.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            self.send_header("ETag", server.etag)
            if content_type := server.content_types.get(self.path[1:]):
                self.send_header("Content-Type", content_type)
            if server.says_length:
                self.send_header("Content-Length", str(total - start))
            self.end_headers()
            self.wfile.write(content[start : start + (server.stop_after or total)])

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@contextmanager
def serve_files() -> Iterator[FileServer]:
    files = FileServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(files))
    files.address = f"http://127.0.0.1:{server.server_address[1]}"
    with listening(server):
        yield files
