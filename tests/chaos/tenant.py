"""A tenant under chaos: it uploads, clicks and runs a batch job, and checks all that it is answered."""

import random
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any
from uuid import uuid4

import httpx
import numpy as np

from tests.chaos.deployment import Story
from tests.drawn_discs import draw_discs
from tests.serving import Server

EDGE_PX = 256
# Refused for now: all that a client may see of what dies behind the service, with Retry-After.
PASSING = (503, 507)
CLICK_PAUSE_S = 0.05
ASK_PAUSE_S = 0.3
JOB_TIMEOUT_S = 300.0

Point = tuple[int, int]


class Tenant:
    """`Tenant` sends requests with its key to the replicas in turn. All its threads share what it has seen.

    answers: how many of each status, and of connections that broke. faults: what must not happen.
    """

    def __init__(self, name: str, key: str, servers: list[Server], seed: int) -> None:
        self.name, self.answers, self.faults = name, Counter[str](), list[str]()
        self._servers = servers
        self._client = httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=90)
        self._random, self._rng = random.Random(seed), np.random.default_rng(seed)
        self._masks: dict[tuple[str, Point], Any] = {}
        self.image_ids: list[str] = []
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []

    def send(self, method: str, path: str, **content: Any) -> httpx.Response | None:
        """Send a request to some replica. Returns None where the connection broke, or the answer is to come later."""
        server = self._random.choice(self._servers)
        try:
            answer = self._client.request(method, f"{server.url}{path}", **content)
        except httpx.TransportError as error:
            self.answers[type(error).__name__] += 1
            return None
        self.answers[str(answer.status_code)] += 1
        if answer.status_code in PASSING:
            if not int(answer.headers.get("retry-after", 0)):
                self.faults.append(f"{answer.status_code} without Retry-After: {answer.text[:200]}")
            return None
        if not answer.is_success:
            self.faults.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
            return None
        return answer

    def send_until_answered(self, method: str, path: str, **content: Any) -> httpx.Response:
        deadline = time.monotonic() + JOB_TIMEOUT_S
        while True:
            if (answer := self.send(method, path, **content)) is not None:
                return answer
            assert not self.faults, self.faults
            assert time.monotonic() < deadline, (
                f"{self.name}: {method} {path} is not answered: {self.answers}"
            )
            time.sleep(ASK_PAUSE_S)

    def upload(self, count: int) -> None:
        for _ in range(count):
            files = {"file": ("discs.png", draw_discs(self._rng, EDGE_PX))}
            answer = self.send_until_answered("POST", "/v1/images", files=files)
            self.image_ids.append(answer.json()["image_id"])

    def click(self, image_id: str, point: Point) -> None:
        """Click once. The same click must always give the same mask."""
        body = {"image_id": image_id, "prompts": [{"points": [point]}]}
        if (answer := self.send("POST", "/v1/segment", json=body)) is None:
            return
        mask = answer.json()["results"][0]["masks"][0]["mask"]
        if self._masks.setdefault((image_id, point), mask) != mask:
            self.faults.append(f"another mask than before for {image_id}, {point}")

    def click_all(self) -> None:
        """Click on every image where nothing is disturbed, so that all later masks can be compared."""
        for image_id in self.image_ids:
            for point in self._points():
                self.click(image_id, point)
        assert len(self._masks) == len(self.image_ids) * len(self._points()), self.answers

    def _points(self) -> list[Point]:
        return [(64, 128), (192, 128)]

    def begin_clicking(self, clients: int) -> None:
        """Click on and on in threads, and upload now and then, until `end_clicking`."""
        self._end.clear()
        self._threads = [threading.Thread(target=self._click_on) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _click_on(self) -> None:
        while not self._end.is_set():
            try:
                if self._random.random() < 0.05:
                    files = {
                        "file": (
                            "discs.png",
                            draw_discs(np.random.default_rng(self._random.getrandbits(32)), EDGE_PX),
                        )
                    }
                    self.send("POST", "/v1/images", files=files)
                else:
                    self.click(self._random.choice(self.image_ids), self._random.choice(self._points()))
            except Exception as error:
                self.faults.append(f"{type(error).__name__}: {error}")
            self._end.wait(CLICK_PAUSE_S)

    def end_clicking(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def submit_job(self) -> str:
        """Submit a batch job over all images. A repeated submission, after a lost answer, is the same job."""
        body = {
            "kind": "batch",
            "input": {"image_ids": self.image_ids},
            "params": {"operation": "automatic", "options": {"method": "ais"}},
        }
        headers = {"idempotency-key": uuid4().hex}
        return str(self.send_until_answered("POST", "/v1/jobs", json=body, headers=headers).json()["job_id"])

    def read_job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = self.send_until_answered("GET", f"/v1/jobs/{job_id}").json()
        return job

    def finish_job(self, job_id: str, story: Story) -> list[str]:
        """Wait for the end of a job and return its result lines.

        A job whose part met three deaths in a row has failed, as it should: it is tried again, as a user would.
        """
        deadline = time.monotonic() + JOB_TIMEOUT_S
        while (job := self.read_job(job_id))["state"] != "succeeded":
            assert time.monotonic() < deadline, job
            if job["state"] == "failed":
                assert job["error"]["type"].endswith("worker_died"), job
                story.tell(f"{self.name}: three deaths on one part; the job is tried again")
                with suppress(
                    AssertionError
                ):  # it may have been tried again by a request whose answer was lost
                    self.send_until_answered("POST", f"/v1/jobs/{job_id}/retry")
            time.sleep(ASK_PAUSE_S)
        while True:
            lines = self.send_until_answered("GET", f"/v1/jobs/{job_id}/results").text.splitlines()
            if len(lines) == len(self.image_ids):
                return lines
            assert time.monotonic() < deadline, f"{len(lines)} lines of {len(self.image_ids)}"
            time.sleep(ASK_PAUSE_S)

    def check(self) -> None:
        self._client.close()
        assert self.faults == [], f"{self.name}: {self.faults[:5]}"
        assert self.answers["200"], self.answers
