"""HTTP over a bare socket: broken framing, headers, forms and JSON, on every route."""

import base64
import json
import random
import re
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.fuzz.broken import Broken
from tests.fuzz.harnesses.bodies import BATCH, BODIES
from tests.fuzz.harnesses.bodies import IMAGE_ID as ANY_ID
from tests.fuzz.harnesses.frontends import CLIENT_BODIES, IMAGE, INFERENCE
from tests.fuzz.harnesses.pictures import png_seeds
from tests.fuzz.mutate import INTERESTING_TEXT, mutate
from tests.fuzz.mutators.http_changes import (
    Request,
    change_form,
    change_headers,
    change_json,
    change_target,
    chunk_body,
    make_form,
)
from tests.fuzz.mutators.mutator import HANG_S, Mutator, check_secrets, check_status
from tests.fuzz.service import FILE_PLACEHOLDER, IMAGE_ID, JOB_PLACEHOLDER, FuzzedService, make_stack

# After an answer, how long to wait for another one, and how long to read a stream that does not end.
QUIET_S = 0.05
STREAM_S = 1.0
MAX_ANSWER_BYTES = 64 << 20
STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)

JSON_HEADERS = [("Content-Type", "application/json")]
CHANGES = {change_json: 0.6, change_headers: 0.3, change_target: 0.25, change_form: 0.1, chunk_body: 0.08}
# In place of a request, before it, or the beginning of one: TLS, HTTP/2, HTTP/0.9, line ends, rubbish.
STRANGE = (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /livez\r\n",
           b"\0" * 99, b"\r\n" * 999, *INTERESTING_TEXT)  # fmt: skip


def fill_ids(body: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(body).replace(ANY_ID, IMAGE_ID)
    filled: dict[str, Any] = json.loads(text)
    if "file_id" in filled.get("input", {}):
        filled["input"]["file_id"] = FILE_PLACEHOLDER.decode()
    return filled


def post_json(path: str, body: dict[str, Any]) -> Request:
    return Request("POST", path, [*JSON_HEADERS], json.dumps(fill_ids(body)).encode())


def list_requests() -> list[Request]:
    """A valid request for every route."""
    picture, job, file = next(iter(png_seeds())), JOB_PLACEHOLDER.decode(), FILE_PLACEHOLDER.decode()
    image = f"/v1/images/{IMAGE_ID}"
    bodies = {
        "segment": "SegmentIn",
        "automatic": "AutomaticIn",
        "similar": "SimilarIn",
        "semantic": "SemanticIn",
        "instances": "InstancesIn",
    }
    form = make_form([('name="file"; filename="a.png"', picture)])
    file_form = make_form([('name="file"; filename="a.tif"', make_stack()), ('name="more"', b"x")])
    file_form.path = "/v1/files"
    return [
        *(post_json(f"/v1/{route}", BODIES[schema]) for route, schema in bodies.items()),
        post_json("/v1/segment", {"image_id": ANY_ID, "prompts": [{"points": [[413, 190]]}]}),
        post_json("/v1/jobs", BODIES["JobIn"]),
        post_json("/v1/jobs", BATCH),
        post_json("/v1/images", BODIES["FetchImageIn"]),
        post_json(f"/v1/jobs/{job}/prompts", BODIES["AddPromptsIn"]),
        form,
        file_form,
        Request(
            "POST",
            "/v1/images?page=0&channels=0,1&normalise=minmax",
            [("Content-Type", "image/png")],
            picture,
        ),
        Request("POST", "/v1/files", [("Content-Type", "application/octet-stream")], make_stack()),
        *(
            Request("GET", path)
            for path in (image, f"/v1/files/{file}", f"/v1/jobs/{job}", "/v1/jobs", "/v1/models")
        ),
        *(Request("GET", path) for path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/")),
        Request("GET", f"{image}/embedding?model=starter"),
        Request("GET", "/v1/models/starter/decoder.onnx", [("Range", "bytes=0-9")]),
        Request("GET", f"/v1/jobs/{job}/events", [("Last-Event-ID", "0-1")]),
        *(
            Request("GET", f"/v1/jobs/{job}/results?format={form}&from=1")
            for form in ("ndjson", "coco", "mp4", "png")
        ),
        Request("POST", f"/v1/jobs/{job}/retry", [("Origin", "http://127.0.0.1")]),
        Request("DELETE", "/v1/jobs/x"),
        *list_picture_requests(image, file),
        *list_frontend_requests(picture),
        Request(
            "OPTIONS",
            "/v1/segment",
            [("Origin", "https://a.test"), ("Access-Control-Request-Method", "POST")],
        ),
    ]


def list_picture_requests(image: str, file: str) -> list[Request]:
    """Requests for what viewers show: previews, tiles and frames; and for the page itself."""
    png = [("Accept", "image/png")]
    frame = {"file_id": FILE_PLACEHOLDER.decode(), "frame": 1, "axis": 0}
    return [
        Request("GET", f"{image}/preview?max=64", [*png]),
        Request("GET", f"{image}/tiles/0/0/0", [*png]),
        Request("GET", f"{image}/tiles/1/0/0", [("If-None-Match", '"x"')]),
        Request("GET", f"/v1/files/{file}/frames/1?max=32&axis=0", [*png]),
        Request("GET", f"/v1/files/{file}/frames/3?window=0,200"),
        Request("POST", "/v1/images", [*JSON_HEADERS], json.dumps(frame).encode()),
        Request("POST", f"{image}/segment", [*JSON_HEADERS], b'{"prompts": [{"points": [[413, 190]]}]}'),
        Request(
            "POST", f"{image}/segment.png", [*JSON_HEADERS], b'{"prompts": [{"box": [400, 180, 430, 200]}]}'
        ),
        Request("GET", "/v1/models/starter/decoder"),
        Request("GET", "/v1/models/starter/decoder/prepare.onnx", [("If-None-Match", '"x"')]),
        Request("GET", "/clients/x/web/main.js", [("Accept-Encoding", "identity")]),
        Request("GET", "/version"),
    ]


def list_frontend_requests(picture: bytes) -> list[Request]:
    """A valid request for the routes of other tools. The pictures in them are real."""

    def post(path: str, body: Any) -> Request:
        text = json.dumps(body).replace(IMAGE, base64.b64encode(picture).decode())
        return Request("POST", path, [*JSON_HEADERS], text.encode())

    mask = {**CLIENT_BODIES["PromptBody"], "bbox": [1, 1, 9, 9], "point_coords": [[4, 4]]}
    return [
        post("/x-anylabeling/v1/predict", CLIENT_BODIES["PredictIn"]),
        post("/x-anylabeling/v1/video/init", CLIENT_BODIES["InitIn"]),
        post("/x-anylabeling/v1/video/prompt", CLIENT_BODIES["PromptIn"]),
        post("/x-anylabeling/v1/video/propagate/stream", CLIENT_BODIES["PropagateIn"]),
        Request("POST", "/x-anylabeling/v1/video/cleanup/x"),
        Request("GET", "/x-anylabeling/v1/models"),
        Request("GET", "/x-anylabeling/v1/models/starter/info"),
        post("/sam/", mask),
        post("/sam/automask/", CLIENT_BODIES["AutoMaskBody"]),
        Request("GET", "/sam/weights/?type=vit_t"),
        post("/v2/models/starter/infer", INFERENCE),
        post("/v2/repository/index", {"ready": True}),
        *(
            Request("GET", f"/v2{path}")
            for path in (
                "",
                "/health/ready",
                "/models/starter",
                "/models/starter/versions/1/config",
                "/models/stats",
            )
        ),
    ]


class HttpMutator(Mutator):
    """`HttpMutator` sends the bytes of one connection."""

    name = "http"

    def __init__(self) -> None:
        self._requests = list_requests()

    def make(self, rng: random.Random) -> bytes:
        raw = b""
        for _ in range(rng.choice((1, 1, 1, 1, 2, 5))):  # pipelined
            raw += self._make_request(rng)
        return raw

    def _make_request(self, rng: random.Random) -> bytes:
        template = rng.choice(self._requests)
        request = Request(template.method, template.path, [*template.headers], template.body)
        for change, probability in CHANGES.items():
            if rng.random() < probability:
                change(rng, request)
        raw = request.encode()
        if rng.random() < 0.15:
            raw = mutate(rng, raw, changes=3)
        if rng.random() < 0.02:
            raw = rng.choice(STRANGE) + rng.choice((b"", raw))
        return raw

    def run(self, data: bytes, service: FuzzedService) -> str:
        raw = service.fill_in(data)
        address = urlsplit(service.url)
        with socket.create_connection((address.hostname, address.port), timeout=HANG_S) as link:
            try:
                link.sendall(raw)
            except TimeoutError:
                raise Broken("hang", "the service neither reads nor closes", "") from None
            except OSError:
                pass  # it has refused, and closed
            answer = read_answers(link)
        statuses = split_statuses(answer)
        for status, body in statuses:
            check_status(status, body, service)
        check_secrets(answer, service)
        return str(statuses[0][0]) if statuses else "closed"


def read_answers(link: socket.socket) -> bytes:
    """Return what the service sends until it is silent after an answer, or closes. Raises Broken for a hang."""
    received, deadline = b"", time.monotonic() + HANG_S
    while len(received) < MAX_ANSWER_BYTES:
        complete = is_complete(received)
        link.settimeout(
            QUIET_S if complete else STREAM_S if b"text/event-stream" in received[:2000] else HANG_S
        )
        try:
            part = link.recv(1 << 16)
        except TimeoutError:
            if complete or b"text/event-stream" in received[:2000]:
                return received
            raise Broken("hang", "no answer, and no close", received[:2000].decode("latin-1")) from None
        except OSError:
            return received
        if not part:
            return received
        received += part
        if time.monotonic() > deadline:
            raise Broken("hang", "the answer does not end", received[:2000].decode("latin-1"))
    return received


def is_complete(received: bytes) -> bool:
    """Return whether the bytes end where an answer ends, as far as the heads tell."""
    answers = list(iterate_answers(received))
    return bool(answers) and answers[-1][2] == len(received)


def split_statuses(received: bytes) -> list[tuple[int, bytes]]:
    """Return the status, and the head with the body, of each answer of a connection."""
    return [(status, received[start:end]) for status, start, end in iterate_answers(received)]


def iterate_answers(received: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the status, the start and the end of each answer. The end of the last one may lie behind what is there."""
    at = 0
    while match := STATUS_LINE.match(received, at):
        head_end = received.find(b"\r\n\r\n", at)
        if head_end < 0:
            yield int(match[1]), at, len(received) + 1
            return
        end = head_end + 4
        # Answers to HEAD state a length and have no body.
        has_body = end < len(received) and not STATUS_LINE.match(received, end)
        if has_body and (length := LENGTH.search(received, at, head_end + 2)):
            end += int(length[1])
        elif has_body and CHUNKED.search(received, at, head_end + 2):
            end = find_last_chunk(received, end)
        yield int(match[1]), at, end
        at = end


def find_last_chunk(received: bytes, at: int) -> int:
    """Return where a chunked body ends that begins at `at`, or a place behind what is there."""
    while (line_end := received.find(b"\r\n", at)) >= 0:
        size = int(received[at:line_end].partition(b";")[0], 16)
        at = line_end + 2 + size + 2
        if not size:
            return at
    return len(received) + 1
