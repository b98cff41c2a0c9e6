"""What annotators keep: masks, tracks and volumes on public pictures, by a service's defaults, before and now.

"before" is what the service answered on these pictures when its masks were the models' own. Packages with pictures are
downloaded by pip. Rows with MobileSAM need its bundle: BENCH_MODELS is a folder that holds `mobile-sam`, as
`segserve models import` writes it. BENCH_ROWS names the rows to run, separated by commas; all if left out.
"""

import csv
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import orjson
from numpy.typing import NDArray
from scipy import ndimage
from tests.serving import Server

from bench.measuring import THREADS, Measurement, Skipped
from bench.public_data import (
    NAPARI,
    STARDIST,
    encode_png,
    encode_tiff,
    read_h_and_e,
    read_member,
    read_tiff,
)
from segserve.evaluate.object_matching import match_label_maps, mean_segmentation_accuracy
from segserve.masks import rle
from segserve.masks.geometry import bounding_box, deepest_pixel, iou
from segserve.types import Bool, Size

COLUMNS = ("what", "before", "now", "target", "met")
NAPARI_SLICE = 34
MIN_OBJECT_PX = 30
MAX_END_ERROR = 3  # slices
MAX_JOB_S = 1800.0
CANDIDATE_OBJECTS = 62
TRUTH_RADIUS_PX = 12  # round a point in the middle of a nucleus
TRACKED_CELLS = Path(__file__).parents[1] / "tests" / "tracking" / "time_lapse_truth.csv"

Json = dict[str, Any]


@dataclass(frozen=True)
class Compared(Measurement):
    """A row with a value from before. `value` is the one of now."""

    before: str = ""

    def to_row(self) -> str:
        mark = "" if self.met is None else ("yes" if self.met else "**no**")
        return f"| {self.label} | {self.before} | {self.value} | {self.target} | {mark} |"


def at_least(label: str, before: str, value: float, target: float, digits: int = 2) -> Compared:
    return Compared(label, f"{value:.{digits}f}", f">= {target:g}", value >= target, before)


def at_most(label: str, before: str, value: float, target: float) -> Compared:
    return Compared(label, f"{value:g}", f"<= {target:g}", value <= target, before)


def informs(label: str, before: str, value: str) -> Compared:
    return Compared(label, value, before=before)


def measure() -> list[Measurement]:
    """Run the rows against a service of their own. A row that cannot run says why."""
    wanted = [name for name in os.environ.get("BENCH_ROWS", "").split(",") if name] or list(ROWS)
    rows: list[Measurement] = []
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        models = copy_models(data_dir)
        server = Server(data_dir, encode_threads=str(THREADS))
        server.client.timeout = MAX_JOB_S
        try:
            for name in wanted:
                start = time.perf_counter()
                try:
                    if name.endswith("mobile-sam") and "mobile-sam" not in models:
                        raise Skipped("BENCH_MODELS has no mobile-sam; import it first")
                    rows += ROWS[name](server)
                except Skipped as reason:
                    rows.append(informs(name, "", f"skipped: {reason}"))
                print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        finally:
            server.stop()
    return rows


def copy_models(data_dir: Path) -> list[str]:
    """Copy the bundles of BENCH_MODELS to the service's data folder, and return their names."""
    if not (folder := os.environ.get("BENCH_MODELS")):
        return []
    names = [path.name for path in Path(folder).iterdir() if (path / "model.yaml").is_file()]
    for name in names:
        shutil.copytree(Path(folder) / name, data_dir / "models" / name)
    return names


def decode(item: Json) -> Bool:
    """Return the mask [H, W] of an object of an answer."""
    size = Size(*item["mask"]["size"])
    return rle.decode(item["mask"]["counts"], size)


def post(server: Server, path: str, **body: Any) -> Json:
    """Post a request. Raises Skipped where the service has no such route."""
    answer = server.client.post(path, json=body)
    if answer.status_code == 404 and "image" not in answer.text:
        raise Skipped(f"the service has no {path}")
    assert answer.status_code in (200, 202), answer.text
    content: Json = answer.json()
    return content


def run_job(server: Server, kind: str, content: bytes, model: str, **params: Any) -> list[Json]:
    """Upload a file, run a job on it, and return its lines."""
    upload = server.client.post("/v1/files", content=content)
    assert upload.status_code == 201, upload.text
    body = {"input": {"file_id": upload.json()["file_id"]}, "params": params}
    job_id = post(server, "/v1/jobs", kind=kind, model=model, **body)["job_id"]
    deadline = time.monotonic() + MAX_JOB_S
    while (job := server.client.get(f"/v1/jobs/{job_id}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(0.5)
    assert job["state"] == "succeeded", job
    lines = server.client.get(f"/v1/jobs/{job_id}/results").iter_lines()
    return [orjson.loads(line) for line in lines if line]


def list_objects(labels: NDArray[Any]) -> list[int]:
    """Return the ids of the objects of a label map that are large enough to count."""
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    return [int(each) for each, count in zip(ids, counts, strict=True) if count >= MIN_OBJECT_PX]


def draw_objects(objects: list[Json], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return the label map of an answer's objects, the smaller on top."""
    labels = np.zeros(shape, np.int64)
    masks = sorted((decode(item) for item in objects), key=lambda mask: -int(mask.sum()))
    for number, mask in enumerate(masks, 1):
        labels[mask] = number
    return labels


def measure_propagation(model: str, before: str) -> Callable[[Server], list[Compared]]:
    """One box for each nucleus of a slice, propagated through all 60 slices."""

    def run(server: Server) -> list[Compared]:
        volume, truth = read_tiff(NAPARI, "nuclei.tif"), read_tiff(NAPARI, "nuclei_label.tif")
        ids = list_objects(truth[NAPARI_SLICE])
        objects = [
            {
                "object_id": each,
                "prompts": [{"slice": NAPARI_SLICE, "box": bounding_box(truth[NAPARI_SLICE] == each)}],
            }
            for each in ids
        ]
        lines = run_job(server, "volume", encode_tiff(volume), model, engine="projection", objects=objects)
        found = {each: np.zeros(truth.shape, np.bool_) for each in ids}
        for line in lines:
            for item in line["objects"]:
                found[item["object_id"]][line.get("slice", line.get("frame"))] = decode(item)
        scores = [iou(truth == each, found[each]) for each in ids]
        errors = [error for each in ids for error in measure_end_errors(truth == each, found[each])]
        near = sum(error <= MAX_END_ERROR for error in errors)
        label = f"propagation of one box, napari's 60 slices, {len(ids)} nuclei, {model}"
        share = round(0.9 * len(errors))
        return [
            at_least(f"{label}: mean IoU in 3D", before, float(np.mean(scores)), 0.84),
            Compared(
                f"{label}: ends within 3 slices", f"{near} of {len(errors)}", f">= {share}", near >= share
            ),
        ]

    return run


def measure_end_errors(truth: Bool, found: Bool) -> list[int]:
    """Return how many slices the first and the last slice of an object are from the true ones."""
    true_slices, slices = (np.flatnonzero(mask.any(axis=(1, 2))) for mask in (truth, found))
    if not len(slices):
        return [len(truth)] * 2
    return [abs(int(true_slices[end]) - int(slices[end])) for end in (0, -1)]


def segment(server: Server, image_id: str, model: str, prompts: list[Json], **body: Any) -> list[list[Bool]]:
    """Return the masks of each prompt."""
    answer = post(server, "/v1/segment", image_id=image_id, model=model, prompts=prompts, **body)
    return [[decode(item) for item in result["masks"]] for result in answer["results"]]


def score_prompts(server: Server, picture: NDArray[Any], truth: NDArray[Any], kind: str) -> tuple[float, int]:
    """Return the mean IoU of one click or box for each object, and how many masks have more parts than the object."""
    image_id = server.upload(encode_tiff(picture))
    masks = [truth == each for each in list_objects(truth)]
    prompts: list[Json] = [
        {"points": [deepest_pixel(mask)]} if kind == "click" else {"box": bounding_box(mask)}
        for mask in masks
    ]
    answers = [segment(server, image_id, "starter", [prompt])[0][0] for prompt in prompts]
    eight = np.ones((3, 3))
    torn = sum(
        ndimage.label(answer, eight)[1] > ndimage.label(mask, eight)[1]
        for answer, mask in zip(answers, masks, strict=True)
    )
    return float(np.mean([iou(*pair) for pair in zip(masks, answers, strict=True)])), int(torn)


def measure_clicks(server: Server) -> list[Compared]:
    pictures = {
        "napari slice 34": (
            read_tiff(NAPARI, "nuclei.tif")[NAPARI_SLICE],
            read_tiff(NAPARI, "nuclei_label.tif")[NAPARI_SLICE],
            {"click": 0.795, "box": 0.813},
        ),
        "stardist 2D": (
            read_tiff(STARDIST, "images/img2d.tif"),
            read_tiff(STARDIST, "images/mask2d.tif"),
            {"click": None, "box": None},
        ),
    }
    rows, torn, count = [], 0, 0
    for name, (picture, truth, before) in pictures.items():
        for kind, earlier in before.items():
            score, parts = score_prompts(server, picture, truth, kind)
            torn, count = torn + parts, count + len(list_objects(truth))
            label = f"one {kind} for each object, {name}, starter: mean IoU"
            if earlier is None:
                rows.append(informs(label, "", f"{score:.3f}"))
            else:
                rows.append(at_least(label, f"{earlier}", score, earlier + 0.05, 3))
    label = f"of these {count} masks, those in more parts than the object"
    rows.append(at_most(label, "16 of 20", round(torn / count, 3), 0.05))
    return rows


def measure_candidates(server: Server) -> list[Compared]:
    """One click for each of some nuclei: the mask that is chosen, against the best of three."""
    picture, truth = read_tiff(STARDIST, "images/img2d.tif"), read_tiff(STARDIST, "images/mask2d.tif")
    image_id = server.upload(encode_tiff(picture))
    masks = [truth == each for each in list_objects(truth)[:CANDIDATE_OBJECTS]]
    scores: dict[str, list[float]] = {"best": [], "first": [], "all": []}
    for mask in masks:
        for select, values in scores.items():
            prompt = {"points": [deepest_pixel(mask)]}
            answers = segment(server, image_id, "mobile-sam", [prompt], select=select)[0]
            values.append(max(iou(mask, answer) for answer in answers))
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    label = f"one click for {len(masks)} nuclei of stardist 2D, MobileSAM: mean IoU"
    return [
        informs(f"{label}, select best", "0.626", f"{means['best']:.3f}"),
        informs(f"{label}, select first", "0.721", f"{means['first']:.3f}"),
        informs(f"{label}, the best of the three", "0.722", f"{means['all']:.3f}"),
    ]


def measure_tracking(server: Server) -> list[Compared]:
    """All nuclei of 30 frames; ten of them were followed by hand, and none divides."""
    movie = read_member(NAPARI, "2D_timelapse.tif")
    lines = run_job(server, "tracking", movie, "starter")
    parents = {item["object_id"]: item["parent"] for line in lines for item in line["objects"]}
    divisions = len({parent for parent in parents.values() if parent})
    switches = count_switches(lines)
    return [
        informs(
            "tracking, napari's time-lapse of 30 frames, starter: tracks (15 cells are in it)",
            "75",
            f"{len(parents)}",
        ),
        at_most("tracking: divisions, all of them false", "26", divisions, 5),
        at_most("tracking: id switches of ten cells that were followed by hand", "29", switches, 12),
    ]


def count_switches(lines: list[Json]) -> int:
    """Return how often the track at a cell's true points changes, over the cells that were followed by hand."""
    with TRACKED_CELLS.open() as file:
        truth = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    masks = [{item["object_id"]: decode(item) for item in line["objects"]} for line in lines]
    rows, columns = np.mgrid[: lines[0]["height"], : lines[0]["width"]]
    switches, last = 0, dict[float, int]()
    for point in truth:
        near = (columns - point["x"]) ** 2 + (rows - point["y"]) ** 2 <= TRUTH_RADIUS_PX**2
        shares = {number: int((mask & near).sum()) for number, mask in masks[int(point["frame"])].items()}
        track = max(shares, key=shares.__getitem__, default=0)
        if shares.get(track):
            switches += last.get(point["cell"], track) != track
            last[point["cell"]] = track
    return switches


def label_automatically(
    server: Server, picture: bytes, shape: tuple[int, int], model: str, method: str, **query: str
) -> NDArray[np.int64]:
    """Return the label map of POST /v1/automatic with its defaults."""
    image_id = server.upload(picture, **query)
    answer = post(server, "/v1/automatic", image_id=image_id, model=model, method=method, format="rle")
    return draw_objects(answer["objects"], shape)


def measure_h_and_e(server: Server) -> list[Compared]:
    picture, truth = read_h_and_e()
    labels = label_automatically(server, picture, truth.shape, "starter", "ais")
    accuracy = match_label_maps(truth, labels)[0].accuracy
    return [
        at_least("H&E, 1500 x 1500 px, 1294 nuclei, AIS with the starter: SA50", "0.00", accuracy, 0.35),
        informs("H&E: objects", "18", f"{int(labels.max())}"),
    ]


def measure_coins(model: str, before: str) -> Callable[[Server], list[Compared]]:
    """24 coins on a dark ground, by AMG."""

    def run(server: Server) -> list[Compared]:
        try:
            from skimage import data
        except ImportError:
            raise Skipped("scikit-image is not installed") from None
        picture = data.coins()
        image_id = server.upload(encode_png(picture))
        body = {"image_id": image_id, "model": model, "method": "amg", "format": "png"}
        answer = server.client.post("/v1/automatic", json=body)
        assert answer.status_code == 200, answer.text
        labels = imagecodecs.png_decode(answer.content)
        count = len(np.unique(labels[labels > 0]))
        label = f"label map of 24 coins, AMG with {model}: labels"
        return [Compared(label, f"{count}", "24 +- 1", abs(count - 24) <= 1, before)]

    return run


def measure_thin_slices(server: Server) -> list[Compared]:
    """Slices of 61 x 57 px, each by itself, and all of them joined."""
    volume, truth = read_tiff(STARDIST, "images/img3d.tif"), read_tiff(STARDIST, "images/mask3d.tif")
    found = total = 0
    for picture, labels in zip(volume, truth, strict=True):
        if not list_objects(labels):
            continue
        answer = label_automatically(server, encode_tiff(picture), labels.shape, "starter", "ais")
        counts = match_label_maps(labels.astype(np.int64), answer)[0]
        found += counts.true_positives
        total += counts.true_positives + counts.false_negatives
    joined = join_slices(server, volume)
    objects = match_label_maps(
        truth.astype(np.int64).reshape(len(truth), -1), joined.reshape(len(truth), -1)
    )[0]
    return [
        informs(
            "stardist 3D, slices of 61 x 57 px, AIS with the starter: objects of slices found",
            "",
            f"{found} of {total}",
        ),
        informs(
            "stardist 3D, automatic: objects found in 3D (IoU 0.5)",
            "7 objects",
            f"{objects.true_positives} of {len(np.unique(truth)) - 1}, {objects.false_positives} others",
        ),
    ]


def join_slices(server: Server, volume: NDArray[Any]) -> NDArray[np.int64]:
    """Return the label volume of an automatic volume job with its defaults."""
    labels = np.zeros(volume.shape, np.int64)
    for line in run_job(server, "volume", encode_tiff(volume), "starter", engine="automatic"):
        for item in line["objects"]:
            labels[line.get("slice", line.get("frame"))][decode(item)] = item["object_id"]
    return labels


def measure_volume(server: Server) -> list[Compared]:
    volume, truth = read_tiff(NAPARI, "nuclei.tif"), read_tiff(NAPARI, "nuclei_label.tif")
    labels = join_slices(server, volume)
    ids = [int(each) for each in np.unique(truth[truth > 0])]
    scores, touched = [], set[int]()
    for each in ids:
        inside = labels[truth == each]
        counts = np.bincount(inside)
        counts[0] = 0
        best = int(counts.argmax())
        touched |= {best} if counts[best] else set()
        scores.append(iou(truth == each, labels == best) if counts[best] else 0.0)
    count = len(np.unique(labels)) - 1
    label = "automatic, napari's 60 slices with 20 labelled nuclei, starter"
    return [
        informs(f"{label}: mean IoU in 3D", "0.81", f"{np.mean(scores):.2f}"),
        informs(
            f"{label}: objects, and those that are no labelled nucleus",
            "38, 19",
            f"{count}, {count - len(touched)}",
        ),
    ]


def measure_depth(server: Server) -> list[Compared]:
    """Slices of 16 bits, read by default and from the least to the highest value."""
    volume, truth = read_tiff(NAPARI, "nuclei.tif"), read_tiff(NAPARI, "nuclei_label.tif")
    means: dict[str, list[float]] = {"minmax": [], "": []}
    for index in (30, NAPARI_SLICE, 38):
        for normalise, values in means.items():
            query = {"normalise": normalise} if normalise else {}
            shape = truth[index].shape
            labels = label_automatically(server, encode_tiff(volume[index]), shape, "starter", "ais", **query)
            values.append(mean_segmentation_accuracy(match_label_maps(truth[index].astype(np.int64), labels)))
    before, now = (", ".join(f"{value:.3f}" for value in values) for values in means.values())
    return [
        informs("16-bit slices 30, 34, 38 of napari, AIS with the starter: mSA", f"{before} (min-max)", now)
    ]


def measure_similar(server: Server) -> list[Compared]:
    """More objects like three examples, by MobileSAM."""
    rows = []
    for name, picture, truth in (
        (
            "napari slice 34",
            read_tiff(NAPARI, "nuclei.tif")[NAPARI_SLICE],
            read_tiff(NAPARI, "nuclei_label.tif")[NAPARI_SLICE],
        ),
        ("stardist 2D", read_tiff(STARDIST, "images/img2d.tif"), read_tiff(STARDIST, "images/mask2d.tif")),
    ):
        image_id = server.upload(encode_tiff(picture))
        ids = list_objects(truth)
        examples = [{"box": bounding_box(truth == each)} for each in ids[:: -(-len(ids) // 3)][:3]]
        answer = post(
            server,
            "/v1/similar",
            image_id=image_id,
            model="mobile-sam",
            examples=examples,
            params={"include_examples": True},
        )
        counts = match_label_maps(truth.astype(np.int64), draw_objects(answer["objects"], truth.shape))[0]
        rows += [
            at_least(
                f"similar to three examples, {name}, MobileSAM: precision", "none", counts.precision, 0.9
            ),
            at_least(f"similar to three examples, {name}, MobileSAM: recall", "none", counts.recall, 0.7),
        ]
    return rows


def skip_video(server: Server) -> Iterator[Compared]:
    raise Skipped("vtest.avi and bikes.mp4 have no truth that a program reads; they were looked at")


ROWS: dict[str, Callable[[Server], Any]] = {
    "propagation-starter": measure_propagation("starter", "0.23"),
    "propagation-mobile-sam": measure_propagation("mobile-sam", "0.50"),
    "clicks": measure_clicks,
    "candidates-mobile-sam": measure_candidates,
    "video": skip_video,
    "similar-mobile-sam": measure_similar,
    "tracking": measure_tracking,
    "h-and-e": measure_h_and_e,
    "coins-starter": measure_coins("starter", "64"),
    "coins-mobile-sam": measure_coins("mobile-sam", "30"),
    "thin-slices": measure_thin_slices,
    "volume": measure_volume,
    "depth": measure_depth,
}
