"""The client code of X-AnyLabeling, offscreen: a click, an error that leaves the labels, a whole image, a video."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from segserve.masks import rle
from segserve.types import Size
from tests.clients.environments import install, run
from tests.serving import Server

pytestmark = [pytest.mark.clients, pytest.mark.downloads]

SCRIPT = Path(__file__).parent / "x_anylabeling" / "click.py"


def test_a_click_is_the_mask_of_rest(server: Server, nuclei: Path, tmp_path: Path) -> None:
    python = install("x-anylabeling", "x-anylabeling-cvhub[cpu]==4.2.1")
    env = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path)}
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(3):
        picture = Image.open(nuclei).convert("RGB")
        picture.paste((0, 0, 0), (0, 0, 1 + number, 1))  # so that no two are the same
        picture.save(frames / f"{number}.png")
    printed = run(python, SCRIPT, server.url, str(nuclei), str(frames / "0.png"), **env)
    answer = json.loads(printed.splitlines()[-1])
    by_rest = server.click(server.upload(nuclei), 413, 190).json()
    size = Size(by_rest["height"], by_rest["width"])
    expected = rle.decode(by_rest["results"][0]["masks"][0]["mask"]["counts"], size, "mask")
    drawn = Image.new("1", (size.width, size.height))
    # The centre of a pixel is at a half.
    ImageDraw.Draw(drawn).polygon([(x - 0.5, y - 0.5) for x, y in answer["points"]], fill=1)
    got = np.array(drawn)
    assert (got & expected).sum() / (got | expected).sum() > 0.95
    assert answer["label"] == "AUTOLABEL_OBJECT"
    assert answer["objects"] > 10
    assert answer["in_video"] > 0
    assert answer["batch"] == "video"
