"""`segserve demo`: it serves a sample with three clicks, says what to do next, and leaves nothing behind."""

import re
import signal
from pathlib import Path

import httpx

from tests.commands.run_command import running_segserve


def test_three_clicks_are_shown_and_nothing_stays(tmp_path: Path) -> None:
    with running_segserve("demo", "--port", "0", "--no-browser", "--data-dir", tmp_path) as demo:
        demo.wait_for("Ctrl-C ends the demo")
        said = demo.read_output()
        scores = [float(score) for score in re.findall(r"click \d at .* score ([\d.]+)", said)]
        page = re.search(r"(http://\S+)/#image=(\w+)((?:&point=\d+,\d+){3})", said)
        assert page is not None
        assert httpx.get(page[1] + "/").is_success
        assert httpx.get(f"{page[1]}/v1/images/{page[2]}").is_success
        assert demo.end_by(signal.SIGINT) == 0
    assert len(scores) == 3
    assert min(scores) > 0.8, "each click is on a nucleus"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
