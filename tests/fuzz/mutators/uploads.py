"""Damaged pictures, videos, volumes and zips, uploaded to a running service as images and as files."""

import random

from tests.fuzz.broken import Broken
from tests.fuzz.mutate import mutate
from tests.fuzz.mutators.damaged_files import make_damaged_file, make_files, make_pictures
from tests.fuzz.mutators.mutator import HANG_S, Mutator, check_status
from tests.fuzz.service import FuzzedService

# One in so many images that are accepted is clicked on, which encodes it.
CLICK_EVERY = 8


class ImageUploads(Mutator):
    """`ImageUploads` uploads a picture, and clicks on some that are accepted. What is accepted must be segmented."""

    name = "images"

    def __init__(self) -> None:
        self._seeds = make_pictures()

    def make(self, rng: random.Random) -> bytes:
        return mutate(rng, rng.choice(self._seeds), self._seeds)

    def run(self, data: bytes, service: FuzzedService) -> str:
        answer = service.client.post("/v1/images", content=data, timeout=HANG_S)
        status = check_status(answer.status_code, answer.content, service)
        if answer.status_code == 201:
            image_id = answer.json()["image_id"]
            if int(image_id[:4], 16) % CLICK_EVERY == 0:
                click = service.click(image_id, 0, 0)
                check_status(click.status_code, click.content, service)
                if click.status_code not in (200, 503):
                    raise Broken("promise", f"a click answers {click.status_code}", click.text[:2000])
            service.client.delete(f"/v1/images/{image_id}")
        return status


class FileUploads(Mutator):
    """`FileUploads` uploads a file, and deletes it."""

    name = "files"

    def __init__(self) -> None:
        self._files = make_files()

    def make(self, rng: random.Random) -> bytes:
        return make_damaged_file(rng, self._files)

    def run(self, data: bytes, service: FuzzedService) -> str:
        answer = service.client.post("/v1/files", content=data, timeout=HANG_S)
        status = check_status(answer.status_code, answer.content, service)
        if answer.status_code == 201 and (file_id := answer.json()["file_id"]) != service.file_id:
            service.client.delete(f"/v1/files/{file_id}")
        return status
