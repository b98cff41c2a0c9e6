"""The commands and the code of README.md and docs/ are run as a reader would run them, against a real service.

Blocks stay as they are on the page, but for the address of the service and for what the page leaves to the reader: ids
in capitals (ID, FILE, JOB) and files such as clip.mp4, for which STAND_INS has small ones. Slow blocks are run by
`make test-docs`.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.docs_blocks import PAGES, ROOT, RUN, Block, read_blocks
from tests.serving import Server

EXAMPLES = ROOT / "examples"
BUILT_IN_MODELS = ROOT / "service" / "segserve" / "models" / "built_in"
TIMEOUT_S = 600
# What runs a block, with the block's file as its argument.
INTERPRETERS = {
    "bash": ("bash", "-euo", "pipefail"),
    "python": (sys.executable,),
    "javascript": ("node",),
    "go": ("go", "run"),
}
SUFFIXES = {"bash": ".sh", "python": ".py", "javascript": ".mjs", "go": ".go"}
# A request that is refused ends the block, as a reader would notice it.
CURL = f'#!/bin/sh\nexec {shutil.which("curl")} --fail-with-body --silent --show-error --max-time 120 "$@"\n'


def nuclei_part(number: int) -> Image.Image:
    """A quarter of the example, which holds a few nuclei."""
    left, top = 348 * (number % 2), 260 * (number // 2 % 2)
    return Image.open(EXAMPLES / "nuclei.png").convert("RGB").crop((left, top, left + 348, top + 260))


def draw_labels(path: Path) -> None:
    """Objects of a picture: its bright spots."""
    from scipy import ndimage

    grey = np.asarray(nuclei_part(0).convert("L"))
    Image.fromarray(ndimage.label(grey > grey.mean() + grey.std())[0].astype(np.uint16)).save(path)


def make_pictures(folder: Path) -> None:
    folder.mkdir()
    for number in range(2):
        nuclei_part(number).save(folder / f"{number}.png")


def make_pictures_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(2):
            nuclei_part(number).save(path.with_suffix(".png"))
            archive.write(path.with_suffix(".png"), f"{number}.png")


def make_one_picture(folder: Path) -> None:
    folder.mkdir()
    nuclei_part(0).save(folder / "0.png")


def make_truth(folder: Path) -> None:
    folder.mkdir()
    draw_labels(folder / "0.png")


def make_clip(path: Path) -> None:
    """A second of video: a window that moves over the example."""
    import av

    picture = np.asarray(Image.open(EXAMPLES / "nuclei.png").convert("RGB"))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 192, "yuv420p"
        for number in range(60):
            window = np.ascontiguousarray(picture[100 + number // 4 : 292 + number // 4, 300:556])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(window, format="rgb24")))
        container.mux(stream.encode())


def make_scan(path: Path) -> None:
    """A ball in a volume of 48 slices of 200 x 200."""
    import nibabel

    x, y, z = np.indices((200, 200, 48))
    inside = (x - 140) ** 2 + (y - 100) ** 2 + (4 * (z - 41)) ** 2 < 35**2
    nibabel.save(nibabel.Nifti1Image((200 * inside - 100).astype(np.int16), np.eye(4)), path)


def install_tissue_model(data_dir: Path) -> None:
    """A semantic model of the reader's: the built-in one under another name."""
    bundle = shutil.copytree(BUILT_IN_MODELS / "starter-unet", data_dir / "models" / "tissue")
    manifest = bundle / "model.yaml"
    manifest.write_text(re.sub(r"^name: .*", "name: tissue", manifest.read_text(), flags=re.MULTILINE))


# Some interpreters come with packages of Python.
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
STAND_INS: dict[str, Callable[[Path], Any]] = {
    "pictures": make_pictures,
    "pictures.zip": make_pictures_zip,
    "images": make_one_picture,
    "truth": make_truth,
    "predictions": make_truth,
    "photo.png": lambda path: nuclei_part(1).save(path),
    "photo.jpg": lambda path: nuclei_part(1).save(path),
    "image.png": lambda path: nuclei_part(2).save(path),
    "other.png": lambda path: nuclei_part(1).save(path),
    "marked.png": lambda path: nuclei_part(0).save(path),
    "marked-labels.png": draw_labels,
    "stack.tif": lambda path: tifffile.imwrite(
        path, np.stack([nuclei_part(n).convert("L") for n in (0, 1, 2)])
    ),
    "clip.mp4": make_clip,
    "scan.nii.gz": make_scan,
}


class Reader:
    """`Reader` follows the pages in a folder of its own, with a service that is running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(EXAMPLES, folder / "examples")
        for name in ("service", "clients", "pyproject.toml", "README.md", "LICENSE", "Makefile"):
            (folder / name).symlink_to(ROOT / name)
        self._data_dir = folder / "data-of-commands"
        self._tools = folder / "tools"
        self._tools.mkdir()
        self._add_tool("curl", CURL)
        self._add_tool("segserve", f'#!/bin/sh\nexec {sys.executable} -m segserve.cli "$@"\n')
        self.server = Server(folder / "data", grpc_port="0")
        self.server.wait_ready()
        install_tissue_model(self._data_dir)

    def _add_tool(self, name: str, script: str) -> None:
        tool = self._tools / name
        tool.write_text(script)
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)

    def run(self, block: Block) -> subprocess.CompletedProcess[str]:
        for name, make in STAND_INS.items():
            if (
                re.search(rf"(?<![\w./-]){re.escape(name)}\b", block.text)
                and not (self.folder / name).exists()
            ):
                make(self.folder / name)
        script = self.folder / f"block{SUFFIXES[block.language]}"
        script.write_text(self._fill_in(block.text))
        return subprocess.run(
            [*INTERPRETERS[block.language], script],
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{self._tools}:{PATH}",
                "SEGSERVE_DATA_DIR": str(self._data_dir),
                "MAKEFLAGS": "",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
        )

    def _fill_in(self, text: str) -> str:
        """Put the addresses of this service and its ids in their places."""
        text = text.replace("127.0.0.1:8001", self.server.grpc_address())
        text = text.replace("http://127.0.0.1:8000", self.server.url)
        makers = {"ID": self._upload_image, "FILE": self._upload_file, "JOB": self._start_job}
        for name, make in makers.items():
            if re.search(rf'(?<=[/"]){name}(?=[/"?\'\s])', text):
                text = re.sub(rf'(?<=[/"]){name}(?=[/"?\'\s])', make(), text)
        return text

    def _upload_image(self) -> str:
        return self.server.upload(EXAMPLES / "nuclei.png")

    def _upload_file(self) -> str:
        make_clip(self.folder / "uploaded.mp4")
        answer = self.server.client.post(
            "/v1/files", files={"file": (self.folder / "uploaded.mp4").read_bytes()}
        )
        return str(answer.raise_for_status().json()["file_id"])

    def _start_job(self) -> str:
        """Several images, of which a reader finds some that are done and some that are not."""
        images = [self.server.upload(EXAMPLES / "nuclei.png", normalise=way) for way in ("auto", "minmax")]
        params = {"operation": "automatic", "options": {"method": "ais"}}
        body = {"kind": "batch", "input": {"image_ids": images}, "params": params}
        return str(self.server.client.post("/v1/jobs", json=body).raise_for_status().json()["job_id"])


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    reader = Reader(tmp_path_factory.mktemp("reader"))
    yield reader
    assert reader.server.stop() == 0


def runnable_blocks() -> list[Any]:
    blocks = (block for page in PAGES for block in read_blocks(page))
    return [
        pytest.param(block, id=block.name, marks=[pytest.mark.docs] if block.is_slow else [])
        for block in blocks
        if block.language in RUN and not block.reason
    ]


@pytest.mark.parametrize("block", runnable_blocks())
def test_block(block: Block, reader: Reader) -> None:
    program = INTERPRETERS[block.language][0]
    if shutil.which(program, path=PATH) is None:
        pytest.skip(f"{program} is not installed")
    done = reader.run(block)
    assert done.returncode == 0, f"{block.name}\n{block.text}\n{done.stdout}"
