"""Changes to requests: their JSON, headers, targets, forms and framing."""

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fuzz.mutate import mutate

DEEP = 50_000
MAX_VALUES = 500_000  # of a body


@dataclass
class Request:
    """`Request` is a request before it is broken."""

    method: str
    path: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def encode(self) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body and not any(
            name.lower() in ("content-length", "transfer-encoding") for name, _ in self.headers
        ):
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + self.body


def make_form(parts: list[tuple[str, bytes]], boundary: str = "xYzZY") -> Request:
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in parts
    )
    body += f"--{boundary}--\r\n".encode()
    return Request(
        "POST", "/v1/images", [("Content-Type", f"multipart/form-data; boundary={boundary}")], body
    )


# Changes to JSON.

ODD_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, 5e-324, 1 << 31, 1 << 63, 1 << 64, 10**400, "", "a", "0", "\0",
    "\u2028", "\ud800", "x" * 5000, "../../etc/passwd", "http://169.254.169.254/", [], {}, [[]], [0] * 5000, {"": {}},
]  # fmt: skip


def change_json(rng: random.Random, request: Request) -> None:
    """Change values, leave out, repeat or add keys, nest deeply; or write what only looks like JSON."""
    try:
        content = json.loads(request.body)
    except ValueError:
        return
    for _ in range(rng.randint(1, 3)):
        content = change_value(rng, content)
    text = json.dumps(content, ensure_ascii=rng.random() < 0.7)
    if rng.random() < 0.15:
        text = rng.choice(TEXT_CHANGES)(text)
    request.body = text.encode("utf-8", "surrogatepass")


def change_value(rng: random.Random, content: Any) -> Any:
    """Return the content with a change somewhere in it."""
    if rng.random() < 0.25 or not isinstance(content, list | dict) or not content:
        odd = copy.deepcopy(rng.choice(ODD_VALUES))
        return multiply([content], rng.choice((1, 2, 300))) if rng.random() < 0.15 else odd
    if isinstance(content, list):
        index = rng.randrange(len(content))
        content[index] = change_value(rng, content[index])
        return multiply(content, rng.choice((1, 1, 1, 2, 600)))
    key = rng.choice(list(content))
    match rng.randrange(6):
        case 0:
            del content[key]
        case 1:
            content[rng.choice((key + "x", "", "\u0000", "kind", "prompts"))] = copy.deepcopy(
                rng.choice(ODD_VALUES)
            )
        case _:
            content[key] = change_value(rng, content[key])
    return content


def multiply(content: list[Any], times: int) -> list[Any]:
    """Return the list repeated, unless it becomes larger than the service may be sent."""
    return content * times if times * count_values(content) <= MAX_VALUES else content


def count_values(content: Any) -> int:
    if not isinstance(content, list | dict):
        return 1
    return 1 + sum(map(count_values, content.values() if isinstance(content, dict) else content))


TEXT_CHANGES: list[Callable[[str], str]] = [
    lambda text: "[" * DEEP + "]" * DEEP,
    lambda text: '{"a":' * DEEP + "1" + "}" * DEEP,
    lambda text: text + text,
    lambda text: text[: len(text) // 2],
    lambda text: "\ufeff" + text,
    lambda text: text.replace('"', "'"),
    lambda text: "{" + ",".join(f'"k{index}":0' for index in range(20_000)) + "}",
    lambda text: text.replace("{", '{"image_id":"a","image_id":"b",', 1),
    lambda text: "[" + "0," * 400_000 + "0]",
    lambda text: text.replace("0", "1" * 5000, 1),
    lambda text: "NaN",
    lambda text: '"' + "\\" * 4001,
]

# Changes to headers and framing.

ODD_HEADERS = [
    ("Content-Length", "-1"), ("Content-Length", "0"), ("Content-Length", "99999999999999999999"),
    ("Content-Length", "5"), ("Content-Length", "+5"), ("Content-Length", "5, 5"), ("Content-Length", "0x5"),
    ("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "gzip, chunked"), ("Transfer-Encoding", "identity"),
    ("Content-Type", "application/json"), ("Content-Type", "\xa0application/json"),
    ("Content-Type", "multipart/form-data"),
    ("Content-Type", "multipart/form-data; boundary=" + "b" * 300), ("Content-Type", ""), ("Content-Type", "image/png"),
    ("Content-Encoding", "gzip"), ("Expect", "100-continue"), ("Expect", "x"), ("Connection", "close"),
    ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("Upgrade", "websocket"), ("Host", "evil.test"),
    ("Host", ""), ("Host", "127.0.0.1:99999"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site"),
    ("Accept", "image/png"), ("Accept", "*/*;q=x"), ("Accept", "image/*," * 500), ("Range", "bytes=5-1,-9"),
    ("Last-Event-ID", "\xff-9"), ("Last-Event-ID", "99999999999999999999-1"), ("Last-Event-ID", "$"),
    ("Idempotency-Key", "k" * 256), ("Idempotency-Key", ""), ("Idempotency-Key", "\xe9\t"),
    ("X-Request-ID", "\x1b[31m"),
    ("X-Forwarded-For", "1.2.3.4"), ("Cookie", "a=b;" * 200), ("X" * 5000, "a"), ("X-Long", "a" * 70_000),
    ("If-None-Match", '"*'), ("Te", "trailers"), ("Bad Name", "x"), ("", "x"), ("X", "a\0b"), ("X", "a\r\n folded"),
]  # fmt: skip
METHODS = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "CONNECT",
    "get",
    "G\0T",
    "",
    "X" * 300,
]
ODD_PATHS = [
    "*", "", "//", "/v1/../v1/images", "/v1/images/%00", "/v1/images/%ff%fe", "/v1/images/" + "a" * 9000,
    "/v1/jobs/%0a",
    "/v1/images/..%2f..%2fetc%2fpasswd", "http://127.0.0.1/livez", "http://evil.test/v1/models", "/v1/models/%2e%2e",
    "/v1/models/starter/../starter", "/v1/files/" + "0" * 64, "/v1/jobs?x=" + "y" * 4000, "/static/../page.html", "/\\",
    "/v1/images?channels=9999,9999&page=99999&normalise=minmax&normalize=none", "/v1/images?page=-1&model=\xe9",
    "/v1/jobs/%F0%9F%92%A9/results?from=99999999999999999999", "/v1/images?channels=0&channels=1&page=", "/docs/../..",
]  # fmt: skip


def change_headers(rng: random.Random, request: Request) -> None:
    for _ in range(rng.randint(1, 3)):
        match rng.randrange(4):
            case 0 if request.headers:
                del request.headers[rng.randrange(len(request.headers))]
            case 1 if request.headers:
                request.headers.append(rng.choice(request.headers))
            case _:
                request.headers.insert(rng.randrange(len(request.headers) + 1), rng.choice(ODD_HEADERS))


def change_target(rng: random.Random, request: Request) -> None:
    if rng.random() < 0.4:
        request.method = rng.choice(METHODS)
    elif rng.random() < 0.4:
        request.path = rng.choice(ODD_PATHS)
    else:
        mutated = mutate(rng, request.path.encode("latin-1", "replace"), changes=2)
        request.path = mutated.decode("latin-1").translate({13: None, 10: None})


ODD_PARTS = [
    'name="file"; filename="a.png"', 'name="file"', "name=file; filename*=utf-8''%ff", 'name="', "",
    'name="file"; filename="' + "n" * 3000 + '"', 'name="\xe9"; x="y', 'filename="a"\r\nContent-Type: a/b',
]  # fmt: skip


def change_form(rng: random.Random, request: Request) -> None:
    """Change a form's parts; a request without a form gets one."""
    contents = (b"", b"x", b"\r\n--xYzZY", rng.randbytes(50))
    count = rng.choice((0, 1, 2, 2, 50))
    parts = [(rng.choice(ODD_PARTS), rng.choice(contents)) for _ in range(count)]
    form = make_form(parts, rng.choice(("xYzZY", "x" * 70, "--", '"q q"')))
    request.headers = [header for header in request.headers if header[0] != "Content-Type"] + form.headers
    request.body = mutate(rng, form.body) if rng.random() < 0.4 else form.body


def chunk_body(rng: random.Random, request: Request) -> None:
    """Send the body in chunks, of which some lie."""
    size = rng.choice((1, 7, 1000, 1 << 16))
    out = b""
    for at in range(0, min(len(request.body), 200 * size), size):
        piece = request.body[at : at + size]
        length = rng.choice((b"%x", b"%x", b"%x", b"%X;ext=1", b"0%x", b"%d", b"-%x", b"%xg")) % len(piece)
        out += length + rng.choice((b"\r\n", b"\r\n", b"\r\n", b"\n")) + piece + b"\r\n"
    ends = (
        b"0\r\n\r\n",
        b"0\r\n\r\n",
        b"0\r\nTrailer: x\r\n\r\n",
        b"",
        b"ffffffffffffffff\r\n",
        b"0\r\nx\0\r\n\r\n",
    )
    request.headers.append(("Transfer-Encoding", "chunked"))
    request.body = out + rng.choice(ends)
