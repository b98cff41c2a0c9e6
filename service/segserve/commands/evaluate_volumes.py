"""`segserve evaluate volumes`: how well a model follows labelled objects through volumes, in the 24 settings of
arXiv 2408.00756, by jobs of the service."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import typer

from segserve.commands.common_options import DataDir, Model, load_quiet_settings, parse_numbers, parse_params
from segserve.commands.file_job import EngineOption
from segserve.commands.server_client import (
    ApiKeyFile,
    ServerUrl,
    connect_to_server,
    find_model,
    run_job,
    upload_file,
)
from segserve.commands.volume import AxisOption, WindowOption, parse_window
from segserve.errors import BadInput
from segserve.evaluate.html_page import BestCases, WorstCase, WorstCases, draw_outlines
from segserve.evaluate.run_evaluation import OutputFiles
from segserve.evaluate.volume_files import VolumeCase, open_readers, pair_volumes, read_case, read_slices
from segserve.evaluate.volume_protocol import (
    DIRECTIONS,
    REFERENCE_PROMPTS,
    MaskChoice,
    PromptKind,
    PropagationDirection,
    SliceChoice,
    VolumeSetting,
    choose_settings,
    largest_region,
)
from segserve.evaluate.volume_results import ResultFolder, SettingResult, SliceCase
from segserve.evaluate.volume_scores import VolumeSpacing, score_object
from segserve.evaluate.volume_tables import SettingTable
from segserve.files.file_readers import FileReaders
from segserve.jobs.engine.job import JobKind
from segserve.masks import rle
from segserve.masks.geometry import bounding_box
from segserve.progress_bar import show_progress
from segserve.types import Bool, Size, UInt8, UInt16
from segserve.wire.operations.reference_prompts import choose_slices, create_prompt
from segserve.wire.results.job_formats import JobFormat
from segserve.wire.schemas.propagation import MAX_OBJECTS, ReferenceIn
from segserve_client import Client

# Slices of a result that are kept for the page, of the lowest and of the highest IoU each.
MAX_CASES_KEPT = 12
# Pixels around an object on the page, and the side that its picture has at least.
PICTURE_MARGIN_PX = 16
MIN_PICTURE_PX = 320
VOXEL_SPACING: VolumeSpacing = (1.0, 1.0, 1.0)
Masks = dict[int, dict[int, str]]  # run lengths by label and slice


@dataclass(frozen=True)
class JobOptions:
    """What all jobs of a study have in common.

    labels: that are evaluated; all if empty.
    params: of the jobs, beside objects, direction and select.
    """

    model: str | None
    axis: int
    window: tuple[float, float] | None
    labels: tuple[int, ...]
    params: Mapping[str, Any]


def evaluate_volumes(
    scans: Annotated[
        Path, typer.Argument(help="Folder of scans: NIfTI, NRRD, MetaImage, zips of DICOM, TIFF stacks.")
    ],
    labels: Annotated[
        Path, typer.Argument(help="Folder of label volumes with the same names; .npy is read too.")
    ],
    results: Annotated[
        Path,
        typer.Option(
            help="Folder of the results of each volume and setting; what is there is not made again."
        ),
    ],
    label: Annotated[
        list[int] | None,
        typer.Option("--label", min=1, help="A label to evaluate; may be repeated [default: all]."),
    ] = None,
    prompt: Annotated[list[PromptKind] | None, typer.Option(help="Only these prompts.")] = None,
    slices: Annotated[list[SliceChoice] | None, typer.Option(help="Only these slices.")] = None,
    direction: Annotated[list[PropagationDirection] | None, typer.Option(help="Only these.")] = None,
    select: Annotated[list[MaskChoice] | None, typer.Option(help="Only these choices of masks.")] = None,
    engine: EngineOption = None,
    param: Annotated[
        list[str] | None, typer.Option(help="name=value of the jobs, such as min_score=0.5. Can be repeated.")
    ] = None,
    axis: AxisOption = None,
    window: WindowOption = None,
    spacing: Annotated[
        str | None,
        typer.Option(help="z,y,x: millimetres from voxel to voxel [default: the scan's own, if it has one]."),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write all scores to this file.")] = None,
    page: Annotated[
        Path | None,
        typer.Option("--page", help="Write a page of the best and worst slices to this file (.html)."),
    ] = None,
    server: ServerUrl = None,
    api_key_file: ApiKeyFile = None,
    model: Model = None,
    data_dir: DataDir = None,
) -> None:
    """Prompt every label of every volume on one slice, follow it through the others, and score the masks.

    There are 24 settings: point or box; on the first, centre or largest slice; forward or both ways; the first mask or
    the best.
    """
    outputs = OutputFiles(json, page)
    outputs.check_writable()
    settings = choose_settings(prompt or (), slices or (), direction or (), select or ())
    params = {"engine": engine and engine.value, **parse_params(param or [])}
    if taken := params.keys() & {"objects", "reference", "axis", "window", "direction", "select"}:
        raise BadInput(f"{taken.pop()!r} is not free here.", field="--param", remedy="Leave it out.")
    options = JobOptions(
        model,
        axis or 0,
        None if window is None else tuple(parse_window(window)),  # type: ignore[arg-type]
        tuple(sorted(set(label or []))),
        {name: value for name, value in params.items() if value is not None},
    )
    own_spacing = None if spacing is None else parse_spacing(spacing)
    pairs = pair_volumes(scans, labels)
    service_settings = load_quiet_settings(data_dir=data_dir)
    with open_readers(service_settings) as readers:
        cases = []
        with show_progress("checking", len(pairs)) as on_progress:
            for pair in pairs:
                case = read_case(pair, readers, options.axis, own_spacing)
                find_labels(case, options.labels)
                cases.append(case)
                on_progress(len(cases), len(pairs))
        unit = find_unit(cases)
        with connect_to_server(server, data_dir, api_key_file) as client:
            study = Study(client, ResultFolder(results), options, settings)
            done = [result for case in cases for result in study.run(case)]
            title = f"{study.model.name}: {len(cases)} volumes, {len(settings)} settings"
        table = SettingTable(done, unit)
        worst, best = draw_cases(cases, done, table.best, readers, options) if page else (None, None)
    tables = [table.setting_rows(), table.choice_rows(), table.label_rows()]
    content = {"model": study.model.name, "digest": study.model.digest, **table.to_json()}
    outputs.write(title, "IoU", tables, content, worst, best, noun="slices")


def parse_spacing(text: str) -> VolumeSpacing:
    """Parse "z,y,x". Raises BadInput where it is not three numbers above 0."""
    z, y, x = parse_numbers(text, 3, "--spacing")
    if not all(0 < value < math.inf for value in (z, y, x)):
        raise BadInput(
            f"{text!r} is not a spacing.", field="--spacing", remedy="Give millimetres: --spacing 2,0.5,0.5."
        )
    return z, y, x


def find_unit(cases: Sequence[VolumeCase]) -> str:
    """Return the unit of distances. Raises BadInput where only some volumes have a spacing."""
    without = [case.pair.path.name for case in cases if case.spacing is None]
    if without and len(without) < len(cases):
        raise BadInput(
            f"{without[0]} does not say how far its voxels are from each other, and others do.",
            field="--spacing",
            remedy="Give --spacing z,y,x for all, or evaluate them apart.",
        )
    return "voxels" if without else "mm"


def find_labels(case: VolumeCase, wanted: Sequence[int]) -> list[int]:
    """Return the labels of a volume that are evaluated. Raises BadInput where there are none."""
    existing = (np.flatnonzero(np.bincount(case.labels.ravel())[1:]) + 1).tolist()
    chosen = [label for label in existing if not wanted or label in wanted]
    if not chosen:
        raise BadInput(
            f"{case.pair.truth} has none of the labels.",
            field="--label",
            remedy=f"It has {', '.join(map(str, existing[:20])) or 'no label'}.",
        )
    return chosen


class Study:
    """`Study` runs the jobs of a volume and scores their masks, except those that are in the folder already."""

    def __init__(
        self,
        client: Client,
        folder: ResultFolder,
        options: JobOptions,
        settings: Sequence[VolumeSetting],
    ) -> None:
        self._client, self._folder, self._options, self._settings = client, folder, options, settings
        self.model = find_model(client, options.model)

    def run(self, case: VolumeCase) -> list[SettingResult]:
        """Return the results of all settings on one volume. Raises BadInput, Unavailable."""
        inputs = self._describe(case)
        stored = {setting: self._folder.load(case.pair.name, setting, inputs) for setting in self._settings}
        missing = [setting for setting, result in stored.items() if result is None]
        if missing:
            file_id = upload_file(self._client, case.pair.path).file_id
            for number, setting in enumerate(missing):
                label = f"{case.pair.name} {number + 1}/{len(missing)} {setting.name}"
                stored[setting] = self._run_setting(case, setting, file_id, label)
                self._folder.save(stored[setting], inputs)  # type: ignore[arg-type]
        return [result for result in stored.values() if result is not None]

    def _describe(self, case: VolumeCase) -> dict[str, Any]:
        """Return all that the results of a volume depend on."""
        options = self._options
        return {
            "scan": hash_file(case.pair.path),
            "labels": hash_file(case.pair.truth),
            "model": self.model.digest,
            "axis": options.axis,
            "window": options.window,
            "label": options.labels,
            "params": options.params,
            "spacing": case.spacing,
        }

    def _run_setting(
        self, case: VolumeCase, setting: VolumeSetting, file_id: str, label: str
    ) -> SettingResult:
        labels = find_labels(case, self._options.labels)
        objects = create_objects(case.labels, labels, setting, file_id)
        masks: Masks = {}
        for begin in range(0, len(objects), MAX_OBJECTS):
            part = objects[begin : begin + MAX_OBJECTS]
            masks |= self._run_job(file_id, part, setting, label)
        return score_setting(case, setting, labels, masks)

    def _run_job(
        self, file_id: str, objects: list[dict[str, Any]], setting: VolumeSetting, label: str
    ) -> Masks:
        params: dict[str, Any] = {
            **self._options.params,
            "axis": self._options.axis,
            "direction": DIRECTIONS[setting.direction].value,
            "select": setting.select.value,
            "objects": objects,
        }
        if self._options.window is not None:
            params["window"] = self._options.window
        body = {
            "kind": JobKind.VOLUME.value,
            "model": self.model.name,
            "input": {"file_id": file_id},
            "params": params,
        }
        with show_progress(label, None) as on_progress:
            job = run_job(self._client, body, on_progress)
        lines = job.read(JobFormat.NDJSON.value)
        return read_masks(lines, [each["object_id"] for each in objects])


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def create_objects(
    labels: UInt16, chosen: Sequence[int], setting: VolumeSetting, file_id: str
) -> list[dict[str, Any]]:
    """Return the objects of a job: one prompt for each label. labels: [N, H, W]."""
    reference = ReferenceIn(
        file_id=file_id, slices=setting.slices.value, prompt=REFERENCE_PROMPTS[setting.prompt], points=1
    )
    areas = np.stack([np.bincount(plane.ravel(), minlength=max(chosen) + 1) for plane in labels])
    objects = []
    for label in chosen:
        (index,) = choose_slices(areas[:, label], reference)
        prompt = create_prompt(largest_region(labels[index] == label), index, reference)
        objects.append({"object_id": label, "prompts": [prompt.model_dump(mode="json", exclude_unset=True)]})
    return objects


def read_masks(lines: bytes, labels: Sequence[int]) -> Masks:
    """Return the masks of a job's result lines. Where an object is twice on a slice, the later line counts."""
    masks: Masks = {label: {} for label in labels}
    for line in lines.splitlines():
        content = orjson.loads(line)
        for item in content["objects"]:
            masks[item["object_id"]][content["slice"]] = item["mask"]["counts"]
    return masks


def score_setting(
    case: VolumeCase, setting: VolumeSetting, labels: Sequence[int], masks: Masks
) -> SettingResult:
    """Score the masks of all labels of a volume."""
    size = Size(*case.labels.shape[1:])
    scores, cases = [], []
    for label in labels:
        truth = case.labels == label
        prediction: Bool = np.zeros(truth.shape, np.bool_)
        for index, counts in masks[label].items():
            prediction[index] = rle.decode(counts, size)
        result = score_object(label, truth, prediction, case.spacing or VOXEL_SPACING)
        scores.append(result)
        cases += [
            SliceCase(label, index, value, masks[label].get(index, ""))
            for index, value in result.slice_ious.items()
        ]
    cases.sort(key=lambda each: each.iou)
    middle = max(MAX_CASES_KEPT, len(cases) - MAX_CASES_KEPT)
    return SettingResult(case.pair.name, setting, scores, cases[:MAX_CASES_KEPT] + cases[middle:])


def draw_cases(
    cases: Sequence[VolumeCase],
    results: Sequence[SettingResult],
    setting: VolumeSetting,
    readers: FileReaders,
    options: JobOptions,
) -> tuple[WorstCases, BestCases]:
    """Draw the worst and the best slices of one setting."""
    worst, best = WorstCases(MAX_CASES_KEPT), BestCases(MAX_CASES_KEPT)
    of_setting = {each.volume: each for each in results if each.setting == setting}
    for case in cases:
        result = of_setting[case.pair.name]
        worst.total += sum(len(each.slice_ious) for each in result.scores)
        best.total = worst.total
        indices = {each.slice for each in result.cases}
        pictures = read_slices(case, readers, options.axis, options.window, indices)
        for each in result.cases:
            truth = (case.labels[each.slice] == each.label).astype(np.uint8)
            prediction = np.zeros_like(truth)
            if each.counts:
                prediction = rle.decode(each.counts, Size(*truth.shape)).astype(np.uint8)
            drawn = WorstCase(
                f"{case.pair.name}, label {each.label}, slice {each.slice}",
                each.iou,
                setting.name if each.counts else f"{setting.name} · no mask",
                draw_outlines(*enlarge_object(pictures[each.slice], truth, prediction)),
            )
            worst.add(drawn)
            best.add(drawn)
    return worst, best


def enlarge_object(image: UInt8, truth: UInt8, prediction: UInt8) -> tuple[UInt8, UInt8, UInt8]:
    """Cut image [H, W, 3] and masks [H, W] around the object, and enlarge what is small, pixel by pixel."""
    x0, y0, x1, y1 = bounding_box((truth | prediction) > 0)
    rows = slice(max(0, y0 - PICTURE_MARGIN_PX), y1 + PICTURE_MARGIN_PX)
    columns = slice(max(0, x0 - PICTURE_MARGIN_PX), x1 + PICTURE_MARGIN_PX)
    parts = [each[rows, columns] for each in (image, truth, prediction)]
    factor = max(1, MIN_PICTURE_PX // max(parts[0].shape[:2]))
    large = [each.repeat(factor, axis=0).repeat(factor, axis=1) for each in parts]
    return large[0], large[1], large[2]
