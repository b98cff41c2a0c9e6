"""`segserve track`: all objects of every frame, linked."""

import json
from pathlib import Path

from tests.commands.run_command import run_segserve
from tests.files import sample_files
from tests.serving import Server


def test_every_frame_has_a_line(tmp_path: Path, server: Server) -> None:
    clip, output = sample_files.write_video(tmp_path / "clip.mp4", 6), tmp_path / "out.ndjson"
    done = run_segserve("track", clip, "-o", output, "--server", server.url)
    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["frame"] for line in output.read_text().splitlines()} == set(range(6))
