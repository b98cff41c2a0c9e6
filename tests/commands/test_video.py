"""`segserve video`: objects through a clip, by a server and without one."""

import io
import zipfile
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tests.commands.run_command import run_segserve
from tests.files import sample_files
from tests.serving import Server


def test_label_maps_by_a_server(tmp_path: Path, server: Server) -> None:
    clip, output = sample_files.write_video(tmp_path / "clip.mp4", 12), tmp_path / "out.zip"
    prompt = ["--point", "8,20@0", "--engine", "projection"]
    done = run_segserve("video", clip, *prompt, "-o", output, "--server", server.url)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(output) as archive:
        first = np.asarray(Image.open(io.BytesIO(archive.read("frame_000000.png"))))
    assert first.shape == (48, 64)
    assert first[20, 8] == 1


def test_an_overlay_without_a_server(tmp_path: Path) -> None:
    clip, output = sample_files.write_video(tmp_path / "clip.mp4", 12), tmp_path / "out.mp4"
    prompt = ["--box", "0,10,16,30@0", "--engine", "projection"]
    done = run_segserve("video", clip, *prompt, "-o", output, "--data-dir", tmp_path / "d")
    assert done.returncode == 0, done.stderr
    with av.open(str(output)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 12
