"""The command line: `segserve serve`, `segserve segment`, `segserve models`, `segserve evaluate`."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import numpy as np
import typer

from segserve import logs
from segserve.decode.segment import Found
from segserve.errors import BadInput, SegserveError
from segserve.evaluate.cli import app as evaluate
from segserve.masks import crop, png
from segserve.models.cli import app as models
from segserve.settings import Settings, load_settings
from segserve.timing import Timings
from segserve.train.cli import app as train
from segserve.types import DEFAULT_TENANT, Box, Prompt, ReadOptions, Select

if TYPE_CHECKING:
    from segserve.wire.schemas_semantic import SemanticIn
    from segserve.wire.semantic import Answer

cli = typer.Typer(
    name="segserve",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Promptable segmentation as a service: encode an image once, answer every click in milliseconds.",
)
cli.add_typer(models, name="models")
cli.add_typer(train, name="train")
cli.add_typer(evaluate, name="evaluate")

Host = Annotated[
    str | None, typer.Option(envvar="SEGSERVE_HOST", help="Address to listen on [default: 127.0.0.1].")
]
Port = Annotated[
    int | None,
    typer.Option(envvar="SEGSERVE_PORT", help="Port to listen on; 0 takes a free one [default: 8000]."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(envvar="SEGSERVE_DATA_DIR", help="Where images, pulled models and the private cache live."),
]
GrpcPort = Annotated[
    int | None,
    typer.Option(envvar="SEGSERVE_GRPC_PORT", help="Port for gRPC; 0 takes a free one [default: no gRPC]."),
]
EncoderUrl = Annotated[
    str | None,
    typer.Option(
        envvar="SEGSERVE_ENCODER_URL",
        help="gRPC target of encoder workers, such as dns:///encoder:8010 [default: encode here].",
    ),
]
LogFormat = Annotated[str | None, typer.Option(envvar="SEGSERVE_LOG_FORMAT", help="text or json.")]

TRY_IT = """
segserve answers at {url}   (page: {url}/   routes: {url}/docs)

Try it:
  curl -F file=@{sample} {url}/v1/images
  curl {url}/v1/segment -H 'content-type: application/json' -d '{{"image_id": "ID", "prompts": [{{"points": [[{x}, {y}]]}}]}}'
  curl {url}/v1/segment -H 'content-type: application/json' -H 'accept: image/png' -o mask.png -d '{{"image_id": "ID", "prompts": [{{"points": [[{x}, {y}]]}}]}}'
(ID: the image_id that the first one answers)
"""


@cli.command()
def serve(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    log_format: LogFormat = None,
    grpc_port: GrpcPort = None,
    encoder_url: EncoderUrl = None,
) -> None:
    """Start the service. All further settings are environment variables, SEGSERVE_...: see the README."""
    from segserve.app import Service
    from segserve.wire.grpc.encoders import RemoteEncoder
    from segserve.wire.rest.api import create_api
    from segserve.wire.serving import Server, run

    settings = load_settings(
        host=host,
        port=port,
        data_dir=data_dir,
        log_format=log_format,
        grpc_port=grpc_port,
        encoder_url=encoder_url,
    )
    logs.configure(settings.log_format, settings.log_level)
    url = settings.encoder_url
    encoder = None if url is None else RemoteEncoder(url, settings.encode_timeout_s)
    service = Service(settings, encoder)

    def started(rest: str, grpc: str | None) -> None:
        print(TRY_IT.format(url=rest, sample="examples/nuclei.png", x=413, y=190), file=sys.stderr)
        if grpc is not None:
            print(f"gRPC at {grpc}   (grpcurl -plaintext {grpc} list)", file=sys.stderr)
        sys.stderr.flush()

    run(
        Server(
            service, create_api(service), settings.port, settings.grpc_port, worker=False, started_at=started
        )
    )


@cli.command()
def encoder(
    host: Host = None,
    port: Annotated[
        int, typer.Option(envvar="SEGSERVE_ENCODER_PORT", help="Port for gRPC; 0 takes a free one.")
    ] = 8010,
    metrics_port: Annotated[
        int,
        typer.Option(envvar="SEGSERVE_METRICS_PORT", help="Port for /metrics, /livez, /readyz over HTTP."),
    ] = 8011,
    data_dir: DataDir = None,
    log_format: LogFormat = None,
) -> None:
    """Start an encoder worker: it encodes images for services that name it in SEGSERVE_ENCODER_URL.

    It needs the same Redis, object store and models as they do.
    """
    from segserve.app import Service
    from segserve.wire.rest.api import create_operations
    from segserve.wire.serving import Server, run

    settings = load_settings(host=host, data_dir=data_dir, log_format=log_format)
    logs.configure(settings.log_format, settings.log_level)
    service = Service(settings, decode=False)

    def started(rest: str, grpc: str | None) -> None:
        print(f"segserve encodes at {grpc}   (metrics: {rest}/metrics)", file=sys.stderr, flush=True)

    run(Server(service, create_operations(service), metrics_port, port, worker=True, started_at=started))


@cli.command()
def segment(
    image: Annotated[Path, typer.Argument(help="The picture.", exists=True, dir_okay=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The mask, a 1-bit PNG.")],
    point: Annotated[list[str] | None, typer.Option(help="x,y on the object; may be repeated.")] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="x,y not on the object; may be repeated.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="x0,y0,x1,y1 around the object.")] = None,
    model: Annotated[
        str | None, typer.Option(envvar="SEGSERVE_DEFAULT_MODEL", help="Which model [default: starter].")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Segment one object of a picture, with no server running."""
    settings = load_settings(data_dir=data_dir, default_model=model)
    logs.configure(settings.log_format, "error")
    if not (point or negative or box):
        raise BadInput(
            "There is nothing to segment by.",
            field="--point",
            remedy="Give --point x,y or --box x0,y0,x1,y1.",
        )
    points = [numbers(p, 2, "--point") for p in point or []] + [
        numbers(p, 2, "--negative") for p in negative or []
    ]
    labels = [1] * len(point or []) + [0] * len(negative or [])
    corners = None if box is None else Box(*numbers(box, 4, "--box"))
    if corners is not None and not (corners.x0 < corners.x1 and corners.y0 < corners.y1):
        raise BadInput(
            "The box is empty or reversed.", field="--box", remedy="Give x0,y0,x1,y1 with x0 < x1, y0 < y1."
        )
    prompt = Prompt(np.array(points, np.float32).reshape(-1, 2), np.array(labels, np.int64), corners)
    with image.open("rb") as file:
        found, timings = asyncio.run(segment_file(settings, file, prompt))
    output.write_bytes(found.rendered)
    best, ms = found.candidate, 1000 * timings.seconds["decode"]
    typer.echo(f"{output}: {crop.area(best.crop)} pixels, score {best.score:.2f}, decoded in {ms:.0f} ms")


BY_SUFFIX = {".png": "png", ".tif": "tiff", ".tiff": "tiff", ".npy": "npy", ".json": "rle"}


@cli.command()
def semantic(
    image: Annotated[Path, typer.Argument(help="The picture.", exists=True, dir_okay=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The class map: .png, .tif, .npy or .json.")],
    model: Annotated[
        str | None,
        typer.Option(envvar="SEGSERVE_DEFAULT_SEMANTIC_MODEL", help="Which model [default: starter-unet]."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help="overlay, coco, rle, polygon, probabilities, ... [default: by the output's name]."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="The probability a class needs [default: the model's].")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(help="Of tiles, as a part of their edge [default: the model's].")
    ] = None,
    flips: Annotated[str, typer.Option(help="none, horizontal, vertical or both.")] = "none",
    data_dir: DataDir = None,
) -> None:
    """Give every pixel of a picture a class, with no server running."""
    from segserve.wire.ask import checked
    from segserve.wire.schemas_semantic import SemanticIn

    settings = load_settings(data_dir=data_dir, default_semantic_model=model)
    logs.configure(settings.log_format, "error")
    asked = {
        "image_id": "",
        "format": format or BY_SUFFIX.get(output.suffix.lower(), output.suffix),
        "threshold": threshold,
        "overlap": overlap,
        "flips": flips,
    }
    with image.open("rb") as file:
        answer = asyncio.run(classify_file(settings, file, checked(SemanticIn, json.dumps(asked).encode())))
    output.write_bytes(answer.content)
    for each in answer.found.classes:
        typer.echo(f"{each.value} {each.name}: {each.area} pixels, {100 * each.fraction:.1f}%")


def numbers(text: str, count: int, option: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count:
        raise BadInput(
            f"{text!r} is not {count} numbers with commas between.", field=option, remedy="Example: 120,80."
        )
    return values


async def segment_file(settings: Settings, image: BinaryIO, prompt: Prompt) -> tuple[Found[bytes], Timings]:
    """The best mask, its PNG, and how long it took: the very parts that serve, without the server."""
    from segserve.app import Service

    service = Service(settings)
    await service.start(warm_up=False)
    try:
        record = await service.library.add(DEFAULT_TENANT, image, ReadOptions())
        timings = service.timings()
        answer = await service.segmenter.segment(
            DEFAULT_TENANT, record.image_id, settings.default_model, [prompt],
            multimask=None, select=Select.BEST, render=lambda candidate: png.encode(candidate.crop), timings=timings,
        )  # fmt: skip
    finally:
        await service.stop()
    return answer.results[0][0], timings


async def classify_file(settings: Settings, image: BinaryIO, asked: "SemanticIn") -> "Answer":
    """The class map of a file: the very parts that serve, without the server."""
    from segserve.app import Service
    from segserve.wire.semantic import segment

    service = Service(settings)
    await service.start(warm_up=False)
    try:
        record = await service.library.add(DEFAULT_TENANT, image, ReadOptions())
        chosen = asked.model_copy(update={"image_id": record.image_id})
        return await segment(service, chosen, service.timings())
    finally:
        await service.stop()


def main() -> None:
    """Run a command; what a user can act on is one line, not a traceback."""
    try:
        cli()
    except SegserveError as error:
        typer.secho(f"segserve: {error}", fg="red", err=True)
        sys.exit(1)
    except BrokenPipeError:
        os._exit(1)


if __name__ == "__main__":
    main()
