"""`segserve demo`: the service with a sample picture and three clicks, to see what it does. Needs no download."""

import os
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import httpx
import typer

from segserve.commands.common_options import DataDir
from segserve.commands.in_process_server import OPEN
from segserve.commands.scratch_data import use_scratch_data
from segserve.commands.serve import Port, check_exposure, run_service
from segserve.commands.server_options import configure_logs
from segserve.errors import SegserveError
from segserve.private_folders import keep_new_files_private
from segserve.settings import Settings, load_settings
from segserve.wire.server import Addresses, check_port_is_free

# A part of examples/nuclei.png.
SAMPLE = Path(__file__).with_name("demo.png")
# One in each of three nuclei: x, y in pixels of the sample.
CLICKS = ((143, 160), (215, 222), (350, 223))
READY_TIMEOUT_S = 120.0
POLL_S = 0.05

NEXT = """
Open {page}
It shows the three clicks. Click another nucleus, or drop a picture of your own on it.

Three things to try next, in another terminal:
  segserve automatic {sample} -o labels.tif --overlay look.png
      all objects of the picture, without a click; look.png shows them
  segserve models list
      larger models, for everything that is no blob
  curl {url}/v1/models
      the same over HTTP; {url}/docs has all routes

Ctrl-C ends the demo, and deletes what it stored.
"""


def demo(
    port: Port = None,
    data_dir: DataDir = None,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser, where there is one.")] = True,
) -> None:
    """Start the service and show three clicks on a sample picture."""
    # It has data of its own, a sample, and a page that is opened at once.
    settings = choose_port(load_settings(port=port, data_dir=data_dir)).model_copy(update=OPEN)
    check_exposure(settings)
    configure_logs(settings.model_copy(update={"log_level": "warning"}))
    keep_new_files_private()

    def show(addresses: Addresses) -> None:
        threading.Thread(target=show_clicks, args=(addresses.rest, browser), daemon=True).start()

    with use_scratch_data(settings) as scratch:
        run_service(scratch, show)


def choose_port(settings: Settings) -> Settings:
    """Return settings with a free port, where another program has the one that nobody asked for."""
    try:
        check_port_is_free(settings.host, settings.port)
    except SegserveError:
        if "port" in settings.model_fields_set:
            raise
        return settings.model_copy(update={"port": 0})
    return settings


def show_clicks(url: str, browser: bool) -> None:
    """Upload the sample, click three times, print what happened, and open the page on it."""
    try:
        with httpx.Client(base_url=url, timeout=READY_TIMEOUT_S) as client:
            wait_until_ready(client)
            image_id = upload_sample(client)
            click_on_sample(client, image_id)
    except httpx.HTTPError as error:
        print(f"The demo was interrupted: {error or type(error).__name__}.", file=sys.stderr)
        return
    points = [("point", f"{x},{y}") for x, y in CLICKS]
    page = f"{url}/#" + urlencode([("image", image_id), *points], safe=",")
    print(NEXT.format(page=page, sample=SAMPLE, url=url), flush=True)
    if browser and has_display():
        webbrowser.open(page)


def wait_until_ready(client: httpx.Client) -> None:
    """Wait until the models are loaded. Raises ReadTimeout."""
    start = time.perf_counter()
    while not client.get("/readyz").is_success:
        if time.perf_counter() - start > READY_TIMEOUT_S:
            raise httpx.ReadTimeout("the service does not get ready")
        time.sleep(POLL_S)


def upload_sample(client: httpx.Client) -> str:
    """Upload the sample and say so. Returns its image_id."""
    start = time.perf_counter()
    with SAMPLE.open("rb") as file:
        answer = client.post("/v1/images", files={"file": (SAMPLE.name, file)}).raise_for_status()
    image = answer.json()
    print(
        f"uploaded a picture of {image['width']} x {image['height']} pixels in {milliseconds(start)}",
        flush=True,
    )
    return str(image["image_id"])


def click_on_sample(client: httpx.Client, image_id: str) -> None:
    """Click, and print what each click found."""
    for number, (x, y) in enumerate(CLICKS, 1):
        body = {"image_id": image_id, "prompts": [{"points": [[x, y]]}]}
        start = time.perf_counter()
        answer = client.post("/v1/segment", json=body).raise_for_status()
        spent, mask = milliseconds(start), answer.json()["results"][0]["masks"][0]
        also = ", with encoding the picture, once for all clicks" if number == 1 else ""
        found = f"a mask of {mask['area']} pixels, score {mask['score']:.2f}"
        print(f"click {number} at ({x}, {y}): {found}, in {spent}{also}", flush=True)


def milliseconds(start: float) -> str:
    return f"{1000 * (time.perf_counter() - start):.0f} ms"


def has_display() -> bool:
    """Return whether a browser would open a window; on other machines it may take the terminal."""
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
