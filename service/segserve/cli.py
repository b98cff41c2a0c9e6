"""The command line: what each command does is in a module of its own."""

import os
import sys

import typer

from segserve.commands.automatic import automatic
from segserve.commands.batch import batch
from segserve.commands.instances import instances
from segserve.commands.segment import segment
from segserve.commands.semantic import semantic
from segserve.commands.serve import encoder, serve, worker
from segserve.commands.video_volume_track import track, video, volume
from segserve.errors import SegserveError
from segserve.evaluate.cli import app as evaluate
from segserve.models.cli import app as models
from segserve.train.cli import app as train

cli = typer.Typer(
    name="segserve",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Promptable segmentation as a service: encode an image once, answer every click in milliseconds.",
)
for command in (serve, encoder, worker, segment, automatic, semantic, instances, batch, video, volume, track):
    cli.command()(command)
cli.add_typer(models, name="models")
cli.add_typer(evaluate, name="evaluate")
cli.add_typer(train, name="train")


def main() -> None:
    """Run a command; what a user can act on is one line, not a traceback."""
    try:
        cli()
    except SegserveError as error:
        option = f"{error.field}: " if (error.field or "").startswith("--") else ""
        typer.secho(f"segserve: {option}{error}", fg="red", err=True)
        sys.exit(1)
    except BrokenPipeError:
        os._exit(1)


if __name__ == "__main__":
    main()
