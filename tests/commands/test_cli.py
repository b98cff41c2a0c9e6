import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "segserve.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def test_segment_writes_a_mask_with_no_server(tmp_path: Path, nuclei: Path) -> None:
    output = tmp_path / "mask.png"
    done = run(
        "segment",
        str(nuclei),
        "--point",
        "413,190",
        "--box",
        "380,160,445,225",
        "-o",
        str(output),
        "--data-dir",
        str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    mask = np.asarray(Image.open(output))
    assert mask.shape == (520, 696)
    assert mask[190, 413]
    assert 100 < mask.sum() < 10_000
    assert "decoded in" in done.stdout


def test_automatic_writes_what_the_suffix_says(tmp_path: Path, nuclei: Path) -> None:
    for name in ("labels.png", "objects.json"):
        done = run(
            "automatic",
            str(nuclei),
            "-o",
            str(tmp_path / name),
            "--overlay",
            str(tmp_path / "look.png"),
            "--param",
            "min_size=100",
            "--data-dir",
            str(tmp_path),
        )
        assert done.returncode == 0, done.stderr
        assert "objects in" in done.stdout
    labels = np.asarray(Image.open(tmp_path / "labels.png"))
    assert labels.shape == (520, 696)
    assert labels.max() == len(json.loads((tmp_path / "objects.json").read_text())["annotations"]) > 20
    assert np.asarray(Image.open(tmp_path / "look.png")).shape == (520, 696, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "labels.gif"], "does not say what to write"),
        (["-o", "labels.png", "--param", "min_size"], "not name=value"),
        (["-o", "labels.png", "--param", "min_size=-1"], "params.min_size"),
        (["-o", "labels.png", "--method", "magic"], "method"),
    ],
)
def test_automatics_mistakes_are_one_clear_line(
    tmp_path: Path, nuclei: Path, arguments: list[str], said: str
) -> None:
    arguments = [str(tmp_path / a) if a.startswith("labels") else a for a in arguments]
    done = run("automatic", str(nuclei), *arguments, "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("labels.*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--point", "5000,1"], "outside the image"),
        (["--point", "a,b"], "2 numbers"),
        ([], "nothing to segment by"),
        (["--box", "9,9,1,1"], "reversed"),
        (["--point", "1,1", "--model", "none"], "no model 'none'"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path: Path, nuclei: Path, arguments: list[str], said: str) -> None:
    done = run("segment", str(nuclei), *arguments, "-o", str(tmp_path / "m.png"), "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "m.png").exists()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SEGSERVE_LOG_LEVEL", "loud", "log_level"),
        ("SEGSERVE_REDIS_URL", "http://here", "Redis address"),
        ("SEGSERVE_OBJECT_STORE", "ftp://there", "object store"),
        ("SEGSERVE_DATA_DIR", "/proc/none", "data folder"),
        ("SEGSERVE_PRELOAD", "starter", "preload"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_clear_line(
    tmp_path: Path, variable: str, value: str, said: str
) -> None:
    done = run("serve", "--port", "0", **{"SEGSERVE_DATA_DIR": str(tmp_path), variable: value})
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_help_explains_every_command() -> None:
    commands = ("serve", "segment", "automatic", "semantic", "instances", "batch", "video", "volume")
    commands += ("track", "models", "evaluate", "train")
    assert set(commands) <= set(run("--help").stdout.split())
    for command in commands:
        assert run(command, "--help").returncode == 0


def test_serving_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, asyncio; from segserve.app import Service; from segserve.wire.rest.api import create_api;"
        "from segserve.settings import Settings; import segserve.cli; from pathlib import Path\n"
        f"s = Service(Settings(data_dir=Path({str(tmp_path)!r}))); create_api(s)\n"
        "async def main():\n"
        "    await s.start(); await s.warm_up(); await s.stop()\n"
        "asyncio.run(main())\n"
        "print([m for m in ('torch', 'onnx', 'cv2', 'sam2', 'segment_anything') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
