"""What people use today, side by side on loopback with the same MobileSAM weights: the first mask, later clicks.

    segserve          upload once, then clicks by image id; the mask as run lengths
    isat-sam-backend  gets raw pixels, answers the embedding as JSON; clicks run in PyTorch at the client, as ISAT does
    osam serve        gets the picture, answers mask and embedding as JSON; each click sends the embedding back
    SamPredictor      in a process of its own, without a network: what a plugin of a desktop program does

Each peer has an environment of its own under BENCH_DATA, which pip fills. torch and ONNX Runtime are the benchmark's,
so that all run the same. Each opens BENCH_PEERS_ROUNDS (7) pictures in turn, with BENCH_PEERS_CLICKS (12) clicks on
each, and pauses between clicks as people make.
"""

import base64
import io
import os
import random
import socket
import subprocess
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import orjson
import psutil
from PIL import Image
from tests.serving import Server

import segserve
from bench import real_weights
from bench.measuring import THREADS, Skipped, describe_cpu_flags
from bench.public_data import DATA, fetch_package
from segserve.masks import rle
from segserve.masks.geometry import iou
from segserve.types import Bool, Size, UInt8

ROUNDS = int(os.environ.get("BENCH_PEERS_ROUNDS", "7"))
CLICKS = int(os.environ.get("BENCH_PEERS_CLICKS", "12"))
PAUSE_S = (0.3, 1.2)  # between two clicks: the shortest and the longest
PICTURE = (1600, 1200)  # width, height
JPEG_QUALITY = 92
ISAT, OSAM, SAMAPI = "isat-sam-backend==1.0.2", "osam[serve]==0.8.1", "samapi"
START_TIMEOUT_S = 180
INSTALL_TIMEOUT_S = 900
COLUMNS = (
    "peer", "upload to first mask, p50", "later click, p50", "later click, p95", "sent and received: first",
    "each later click", "memory of the server", "IoU with SamPredictor, least",
)  # fmt: skip
Point = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """A row of the table. cells: below COLUMNS."""

    cells: tuple[str, ...]

    def to_row(self) -> str:
        """Return the row in Markdown."""
        return f"| {' | '.join(self.cells)} |"


@dataclass(frozen=True)
class Answer:
    """A peer's answer to a click. wire: bytes of the bodies of request and response."""

    mask: Bool
    wire: int


class Peer:
    """A peer that answers clicks on one open picture. pid: of its server."""

    name: str
    pid: int

    def open_and_click(self, picture: UInt8, point: Point) -> Answer:
        """Send a picture that was never sent before, and click on it."""
        raise NotImplementedError

    def click(self, point: Point) -> Answer:
        """Click on the picture again."""
        raise NotImplementedError

    def memory_mb(self) -> float:
        """Return the resident memory of the server and its children."""
        server = psutil.Process(self.pid)
        processes = [server, *server.children(recursive=True)]
        return float(sum(each.memory_info().rss for each in processes)) / 1e6


class Segserve(Peer):
    def __init__(self, server: Server) -> None:
        self.name, self.pid, self._client = "segserve", server.process.pid, server.client
        self._image_id, self._size = "", Size(1, 1)

    def open_and_click(self, picture: UInt8, point: Point) -> Answer:
        data = encode_jpeg(picture)
        response = self._client.post("/v1/images", files={"file": ("picture.jpg", data)}).raise_for_status()
        self._image_id, self._size = response.json()["image_id"], Size(*picture.shape[:2])
        answer = self.click(point)
        return Answer(answer.mask, answer.wire + wire_bytes(response))

    def click(self, point: Point) -> Answer:
        body = {"image_id": self._image_id, "prompts": [{"points": [point]}], "raw": True}
        response = self._client.post("/v1/segment", json=body).raise_for_status()
        mask = response.json()["results"][0]["masks"][0]["mask"]
        return Answer(rle.decode(mask["counts"], self._size), wire_bytes(response))


class IsatBackend(Peer):
    """The backend encodes; the client is ISAT's: `SegAny.predict_with_point_prompt`, two passes of the decoder."""

    def __init__(self, url: str, pid: int) -> None:
        network = real_weights.build_network()
        from mobile_sam import SamPredictor

        self.name, self.pid = f"isat-sam-backend {ISAT[-5:]}", pid
        self._client = httpx.Client(base_url=url, timeout=120)
        self._predictor = SamPredictor(network)

    def open_and_click(self, picture: UInt8, point: Point) -> Answer:
        import torch

        shape = ",".join(map(str, picture.shape))
        response = self._client.post(
            "/api/encode", files={"file": picture.tobytes()}, data={"shape": shape, "dtype": "uint8"}
        ).raise_for_status()
        content, predictor = response.json(), self._predictor
        predictor.features = torch.tensor(content["features"])
        predictor.original_size = tuple(content["original_size"])
        predictor.input_size, predictor.is_image_set = tuple(content["input_size"]), True
        return Answer(self.click(point).mask, wire_bytes(response))

    def click(self, point: Point) -> Answer:
        points, labels = np.array([point]), np.array([1])
        _, scores, logits = self._predictor.predict(points, labels, multimask_output=True)
        best = logits[np.argmax(scores)][None]
        masks, _, _ = self._predictor.predict(points, labels, mask_input=best, multimask_output=False)
        return Answer(masks[0], 0)


class OsamServe(Peer):
    def __init__(self, url: str, pid: int) -> None:
        self.name, self.pid = f"osam serve {OSAM[-5:]}, MobileSAM put in", pid
        self._client, self._embedding = httpx.Client(base_url=url, timeout=120), None
        self._size = (1, 1)

    def open_and_click(self, picture: UInt8, point: Point) -> Answer:
        self._size = picture.shape[:2]
        return self._generate(point, {"image": base64.b64encode(encode_jpeg(picture)).decode()})

    def click(self, point: Point) -> Answer:
        return self._generate(point, {"image_embedding": self._embedding})

    def _generate(self, point: Point, given: dict[str, Any]) -> Answer:
        prompt = {"points": [point], "point_labels": [1]}
        body = orjson.dumps({"model": "mobile-sam", "prompt": prompt, **given})
        headers = {"content-type": "application/json"}
        response = self._client.post("/api/generate", content=body, headers=headers).raise_for_status()
        content = orjson.loads(response.content)
        self._embedding = content["image_embedding"]
        [annotation] = content["annotations"]
        mask, box = np.zeros(self._size, bool), annotation["bounding_box"]
        part = np.asarray(Image.open(io.BytesIO(base64.b64decode(annotation["mask"])))) > 0
        mask[box["ymin"] : box["ymax"] + 1, box["xmin"] : box["xmax"] + 1] = part
        return Answer(mask, wire_bytes(response))


def serve_predictor(connection: Any) -> None:
    """Answer pictures and clicks of a pipe by SamPredictor: what runs in its process."""
    import torch

    torch.set_num_threads(THREADS)
    network = real_weights.build_network()  # imports mobile_sam without its warnings
    from mobile_sam import SamPredictor

    predictor = SamPredictor(network)
    connection.send(None)
    while (message := connection.recv()) is not None:
        picture, point = message
        if picture is not None:
            predictor.set_image(picture)
        masks, scores, _ = predictor.predict(np.array([point]), np.array([1]), multimask_output=True)
        connection.send(masks[np.argmax(scores)])


class TorchPredictor(Peer):
    """SamPredictor. Pictures and masks come by a pipe, which takes about a millisecond."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve_predictor, args=(theirs,), daemon=True)
        self._process.start()
        self._connection.recv()
        self.name, self.pid = "SamPredictor in PyTorch, no network", self._process.pid or 0

    def open_and_click(self, picture: UInt8, point: Point) -> Answer:
        return self._ask(picture, point)

    def click(self, point: Point) -> Answer:
        return self._ask(None, point)

    def _ask(self, picture: UInt8 | None, point: Point) -> Answer:
        self._connection.send((picture, point))
        return Answer(self._connection.recv(), 0)

    def stop(self) -> None:
        self._connection.send(None)
        self._process.join()


def encode_jpeg(picture: UInt8) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def wire_bytes(response: httpx.Response) -> int:
    """Return the bytes of the bodies of a request and its response."""
    return int(response.request.headers["content-length"]) + response.num_bytes_downloaded


def create_environment(name: str, requirements: tuple[str, ...]) -> Path:
    """Return the Python of an environment that has the requirements. Raises Skipped where pip cannot install them.

    What the benchmark's own environment has already, above all torch, is used from there.
    """
    folder = DATA / "peers" / name
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
        (site / "benchmark.pth").write_text(sysconfig.get_path("purelib") + "\n")
        command = ["nice", str(python), "-m", "pip", "install", "--quiet", *requirements]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
        except subprocess.CalledProcessError as error:
            raise Skipped(error.stderr.strip().splitlines()[-1]) from None
        ready.touch()
    return python


def find_free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


@contextmanager
def running_server(command: list[str], port: int, home: Path) -> Iterator[tuple[str, int]]:
    """Run a peer's server until the block ends. Yields (its URL, its process id)."""
    threads = {"OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)}
    log = home / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **threads, "HOME": str(home)}
        )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_TIMEOUT_S
    try:
        while True:
            try:
                httpx.get(url)
                break
            except httpx.TransportError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Skipped(f"it did not start: {log.read_text()[-300:]}") from None
                time.sleep(0.2)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def running_segserve(folder: Path) -> Iterator[Peer]:
    models = folder / "models"
    models.mkdir(parents=True)
    bundle = real_weights.open_bundle()
    (models / bundle.name).symlink_to(bundle.folder)
    server = Server(
        folder,
        default_model=bundle.name,
        encode_threads=str(THREADS),
        decode_threads=str(THREADS),
        log_level="error",
    )
    try:
        server.wait_ready()
        yield Segserve(server)
    finally:
        server.stop()


@contextmanager
def running_isat(folder: Path) -> Iterator[Peer]:
    python, port = create_environment("isat", (ISAT, "jinja2")), find_free_port()
    main = python.parent / "isat-sam-backend"
    with running_server([str(main), "--port", str(port)], port, folder) as (url, pid):
        yield IsatBackend(url, pid)


@contextmanager
def running_osam(folder: Path) -> Iterator[Peer]:
    python, port, bundle = create_environment("osam", (OSAM,)), find_free_port(), real_weights.open_bundle()
    encoder = onnx.load(str(bundle.path("encoder.onnx")))
    rename_input(encoder, "x")
    onnx.save(encoder, str(folder / "encoder.onnx"))
    files = [str(folder / "encoder.onnx"), str(bundle.path("decoder.onnx"))]
    command = [str(python), str(Path(__file__).parent / "peers_osam.py"), *files, str(port)]
    with running_server(command, port, folder) as (url, pid):
        yield OsamServe(url, pid)


@contextmanager
def running_predictor(folder: Path) -> Iterator[Peer]:
    peer = TorchPredictor()
    try:
        yield peer
    finally:
        peer.stop()


@contextmanager
def running_samapi(folder: Path) -> Iterator[Peer]:
    fetch_package(SAMAPI)
    raise Skipped("it is there again, and this benchmark has no client for it")
    yield


def rename_input(model: onnx.ModelProto, name: str) -> None:
    """Rename the only input of a graph."""
    [graph_input] = model.graph.input
    before, graph_input.name = graph_input.name, name
    for node in model.graph.node:
        node.input[:] = [name if each == before else each for each in node.input]


PEERS: dict[str, Callable[[Path], Any]] = {
    "SamPredictor": running_predictor,
    "segserve": running_segserve,
    "isat-sam-backend": running_isat,
    "osam serve": running_osam,
    "samapi": running_samapi,
}


@dataclass
class Observed:
    """What one peer has shown. first, later: seconds. first_wire, later_wire: bytes."""

    first: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    first_wire: list[int] = field(default_factory=list)
    later_wire: list[int] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)


def observe(peer: Peer, picture: UInt8, points: list[Point], observed: Observed) -> list[Bool]:
    """Open a picture and click at all points, and return the masks."""
    masks, chance = [], random.Random(len(observed.first))
    for number, point in enumerate(points):
        time.sleep(chance.uniform(*PAUSE_S))
        start = time.perf_counter()
        answer = peer.click(point) if number else peer.open_and_click(picture, point)
        seconds = time.perf_counter() - start
        (observed.later if number else observed.first).append(seconds)
        (observed.later_wire if number else observed.first_wire).append(answer.wire)
        masks.append(answer.mask)
    return masks


def draw_round(number: int) -> tuple[UInt8, list[Point]]:
    """Return a picture that no round before had, and where to click."""
    picture = real_weights.read_photograph(PICTURE).copy()
    picture[:8, :8] = number  # another picture for every cache
    width, height = PICTURE
    rng = np.random.default_rng(number)
    return picture, [(float(x * width), float(y * height)) for x, y in rng.uniform(0.1, 0.9, (CLICKS, 2))]


def measure() -> list[Row]:
    if not real_weights.uses_real_weights():
        raise Skipped("it needs MobileSAM's checkpoint")
    rows, missing, observed = [], dict[str, str](), dict[str, Observed]()
    with tempfile.TemporaryDirectory() as work, ExitStack() as stack:
        peers = {}
        for name, start in PEERS.items():
            folder = Path(work) / name.replace(" ", "-")
            folder.mkdir()
            try:
                peers[name] = stack.enter_context(start(folder))
                observed[name] = Observed()
                observe(peers[name], *draw_round(200), Observed())  # loads what is loaded late
            except Skipped as reason:
                missing[name] = str(reason)
        for number in range(ROUNDS):
            picture, points = draw_round(number)
            reference: list[Bool] = []
            for name, peer in peers.items():
                masks = observe(peer, picture, points, observed[name])
                reference = reference or masks
                observed[name].ious += [iou(*pair) for pair in zip(reference, masks, strict=True)]
        rows = [summarise(peer, observed[name]) for name, peer in peers.items()]
    blanks = ("",) * (len(COLUMNS) - 2)
    rows += [Row((name, f"not measured: {reason}", *blanks)) for name, reason in missing.items()]
    picture, _ = draw_round(0)
    what = (
        f"{ROUNDS} pictures of {PICTURE[0]} x {PICTURE[1]}, {CLICKS} clicks on each, pauses of {PAUSE_S[0]} to "
        f"{PAUSE_S[1]} s; JPEG of {len(encode_jpeg(picture)) / 1e3:.0f} kB, whose losses change masks "
        f"where it is sent; {describe_software()}"
    )
    return [*rows, Row((what, *("",) * (len(COLUMNS) - 1)))]


def summarise(peer: Peer, observed: Observed) -> Row:
    first, later = np.array(observed.first) * 1000, np.array(observed.later) * 1000
    wires = [format_bytes(float(np.median(each))) for each in (observed.first_wire, observed.later_wire)]
    return Row(
        (
            peer.name,
            f"{np.median(first):.0f} ms",
            f"{np.median(later):.1f} ms",
            f"{np.percentile(later, 95):.1f} ms",
            *wires,
            f"{peer.memory_mb():.0f} MB",
            f"{min(observed.ious):.4f}",
        )
    )


def format_bytes(count: float) -> str:
    if not count:
        return "-"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def describe_software() -> str:
    """Return versions, and the CPU's flags that matter for speed."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime"))
    return f"segserve {segserve.__version__}, {libraries}; CPU flags {describe_cpu_flags()}"
