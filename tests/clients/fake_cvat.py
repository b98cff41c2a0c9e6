"""A CVAT of one task and one function: what cvat-cli asks of a server to register a function and to run its agent."""

import io
import json
import re
import threading
import zipfile
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

TASK, FUNCTION = 3, 7
DATE = "2026-11-01T00:00:00Z"
# The fields of the remote function that an agent compares with its own.
FUNCTION_DEFAULTS = {
    "id": FUNCTION,
    "provider": "native",
    "min_neg_points": -1,
    "startswith_box": False,
    "startswith_box_optional": False,
}


# The parameters of an annotation request, or what makes them of the result before.
Request = dict[str, Any] | Callable[[dict[str, Any]], dict[str, Any]]


class FakeCvat:
    """`FakeCvat` serves frames (PNG) of one size and hands out `requests` one after another.

    label: of the task. results, failures: what the agent answered. function: as it was registered.
    """

    def __init__(self, frames: Sequence[bytes], label: str = "object") -> None:
        self.frames, self.label = frames, label
        self.requests: list[Request] = []
        self.results: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self.unknown: list[str] = []
        self.function: dict[str, Any] = dict(FUNCTION_DEFAULTS)
        self.width, self.height = Image.open(io.BytesIO(frames[0])).size
        handler = type("Handler", (Handler,), {"cvat": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def task(self) -> dict[str, Any]:
        return {
            "id": TASK, "url": f"{self.url}/api/tasks/{TASK}", "name": "t", "mode": "annotation",
            "size": len(self.frames),
            "data_chunk_size": 10, "data_compressed_chunk_type": "imageset", "data_original_chunk_type": "imageset",
            "created_date": DATE, "updated_date": DATE, "dimension": "2d", "status": "annotation", "subset": "",
            "labels": {"url": f"{self.url}/api/labels?task_id={TASK}"}, "jobs": {"url": "", "count": 1, "completed": 0,
            "validation": 0}, "overlap": 0, "segment_size": 10, "bug_tracker": "", "organization": None, "owner": None,
            "assignee": None, "project_id": None, "data": 1, "image_quality": 70, "guide_id": None,
        }  # fmt: skip

    def meta(self) -> dict[str, Any]:
        frame = {"width": self.width, "height": self.height, "related_files": 0}
        return {
            "size": len(self.frames), "start_frame": 0, "stop_frame": len(self.frames) - 1, "frame_filter": "",
            "image_quality": 70, "deleted_frames": [], "chunks_updated_date": DATE,
            "frames": [{**frame, "name": f"{number}.png"} for number in range(len(self.frames))],
        }  # fmt: skip

    def get(self, path: str) -> Any:
        if path.startswith("/api/server/about"):
            return {"name": "fake", "description": "", "version": "2.80.0", "logo_url": "", "subtitle": ""}
        if path.startswith(f"/api/functions/{FUNCTION}"):
            return self.function
        if path.startswith("/api/labels"):
            label = {
                "id": 1, "name": self.label, "color": "#ff0000", "type": "any", "attributes": [],
                "sublabels": [], "has_parent": False,
            }  # fmt: skip
            return {"count": 1, "next": None, "previous": None, "results": [label]}
        if path.startswith(f"/api/tasks/{TASK}/data/meta"):
            return self.meta()
        if path.startswith(f"/api/tasks/{TASK}/data") and (number := re.search(r"number=(\d+)", path)):
            if "type=frame" in path:
                return self.frames[int(number[1])]
            chunk = io.BytesIO()
            with zipfile.ZipFile(chunk, "w") as archive:
                for index, frame in enumerate(self.frames):
                    archive.writestr(f"{index:06d}.png", frame)
            return chunk.getvalue()
        return self.task() if path.startswith(f"/api/tasks/{TASK}") else None

    def post(self, path: str, body: dict[str, Any]) -> Any:
        if path == "/api/functions":
            self.function |= body
            return self.function
        if path.endswith("/requests/acquire"):
            request = self.requests.pop(0) if self.requests else None
            if callable(request):
                request = request(self.results[-1])
            return {"ar_assignment": request and {"ar_id": "r", "ar_params": {"task": TASK, **request}}}
        if path.endswith("/complete"):
            self.results.append(body)
            return {}
        if path.endswith("/fail"):
            self.failures.append(body["exc_info"])
            return {}
        return {} if path.endswith("/update") else None


class Handler(BaseHTTPRequestHandler):
    """Passes requests on to the class attribute `cvat`."""

    cvat: FakeCvat

    def do_GET(self) -> None:
        self.answer(self.cvat.get(self.path))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.answer(self.cvat.post(self.path, json.loads(body)))

    def answer(self, content: Any) -> None:
        if content is None:
            self.cvat.unknown.append(self.path)
        is_bytes = isinstance(content, bytes)
        data = content if is_bytes else json.dumps(content).encode()
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", "image/png" if is_bytes else "application/vnd.cvat+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass
