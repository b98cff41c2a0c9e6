"""From a bare checkout to the first mask of a photograph by MobileSAM, without torch: install, pull, upload, one click.

It does what the README's first lines say, in a clone of this repository: `make` makes the light install,
`segserve serve` starts, `segserve models pull mobile-sam` fetches the model meanwhile, then one picture and one click.
"cold": pip keeps and finds nothing in its cache; "warm": the packages are in it.

Packages come over the network or from a folder, as pip is configured: the table tells which.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np

from bench.measuring import Measurement, Skipped, at_most
from bench.peers import find_free_port
from bench.public_data import encode_png
from bench.real_weights import read_photograph
from segserve.models.package_index import is_address, read_pip_configuration

ROOT = Path(__file__).parents[1]
START_TIMEOUT_S = 300.0
POINT = [250, 100]
LATER_CLICKS = 20
TARGET_S = 90.0  # with a warm cache


def measure() -> list[Measurement]:
    configuration = read_pip_configuration()
    pages = [*configuration.find_links, *configuration.indexes]
    where = "an index" if any(map(is_address, pages)) else "a folder of this machine"
    rows = [Measurement("packages come from", where)]
    for cache in ("cold", "warm"):
        with tempfile.TemporaryDirectory(prefix="segserve-first-mask-") as work:
            rows += measure_once(Path(work) / "segserve", cache)
    return rows


def measure_once(checkout: Path, cache: str) -> list[Measurement]:
    """Return the rows of one walk from nothing to the first mask."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
    environment |= {"SEGSERVE_DATA_DIR": str(checkout / "data")}
    if cache == "cold":
        environment["PIP_NO_CACHE_DIR"] = "1"

    def run(*command: str | Path) -> None:
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise Skipped(f"{command[0]} {command[1]} failed: {done.stderr.strip()[-300:]}")

    subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)
    segserve, port = checkout / ".venv" / "bin" / "segserve", find_free_port()
    start = time.perf_counter()
    run("make", ".venv/.light")
    installed = time.perf_counter()
    service = subprocess.Popen(
        [segserve, "serve", "--port", str(port)],
        cwd=checkout,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        run(segserve, "models", "pull", "mobile-sam")
        pulled = time.perf_counter()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=START_TIMEOUT_S) as client:
            wait_until_live(client)
            picture = encode_png(read_photograph())
            image_id = (
                client.post("/v1/images", files={"file": picture}).raise_for_status().json()["image_id"]
            )
            click(client, image_id, POINT)
            done = time.perf_counter()
            later = [click(client, image_id, [POINT[0] + 5 * n, POINT[1]]) for n in range(LATER_CLICKS)]
        resident_mb = read_resident_mb(service.pid)
    finally:
        service.terminate()
        service.wait()
    has_torch = any(checkout.glob(".venv/lib/*/site-packages/torch"))
    total = f"{cache}: all of it, from the checkout to the mask"
    return [
        Measurement(f"{cache}: the light install", f"{installed - start:.1f} s"),
        Measurement(f"{cache}: `segserve models pull mobile-sam`", f"{pulled - installed:.1f} s"),
        Measurement(f"{cache}: upload and first click", f"{done - pulled:.2f} s"),
        Measurement(total, f"{done - start:.1f} s")
        if cache == "cold"
        else at_most(total, done - start, TARGET_S, "s"),
        Measurement(f"{cache}: a later click", f"{1000 * float(np.median(later)):.0f} ms"),
        Measurement(f"{cache}: resident memory of the service", f"{resident_mb:.0f} MB"),
        Measurement(f"{cache}: torch is installed", "yes" if has_torch else "no"),
    ]


def wait_until_live(client: httpx.Client) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            client.get("/livez").raise_for_status()
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def click(client: httpx.Client, image_id: str, point: list[int]) -> float:
    """Return the seconds of one click that found something."""
    body = {"image_id": image_id, "model": "mobile-sam", "prompts": [{"points": [point]}]}
    start = time.perf_counter()
    answer = client.post("/v1/segment", json=body).raise_for_status().json()
    seconds = time.perf_counter() - start
    assert max(mask["area"] for mask in answer["results"][0]["masks"]) > 0
    return seconds


def read_resident_mb(pid: int) -> float:
    """Return the resident memory of a process and of those that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    status = Path(f"/proc/{pid}/status").read_text()
    own = int(status.split("VmRSS:")[1].split()[0]) / 1000
    return own + sum(read_resident_mb(int(child)) for child in children)
