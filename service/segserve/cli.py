"""The command line `segserve`. Each command is a module that has its name:

    serve, encoder, worker                   commands/serve.py, commands/encoder.py, commands/worker.py
    demo, doctor                             commands/demo.py, commands/doctor.py
    segment, automatic, similar, ...         commands/segment.py, ... (one image)
    batch                                    commands/batch.py (many images)
    video, volume, track                     commands/video.py, commands/volume.py, commands/track.py
    keys add, list, revoke, rotate           commands/keys.py
    tenants list, show, delete               commands/tenants.py
    usage                                    commands/usage.py
    models list, import, pull, ...           models/cli.py
    evaluate masks, model, prompts, ...      evaluate/cli.py
    evaluate volumes                         commands/evaluate_volumes.py
    train promptable, unet                   train/cli.py

`commands/command_table.py` lists them all; a command's module is imported when it is run. Each command turns its
options into the request that the REST API takes, under the API's names.
"""

import os
import signal
import sys
from typing import Annotated

import typer

from segserve import __version__
from segserve.commands.command_table import TYPER_OPTIONS, CommandTable
from segserve.errors import SegserveError


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"segserve {__version__}")
        raise typer.Exit


cli = typer.Typer(
    name="segserve",
    cls=CommandTable,
    no_args_is_help=True,
    help="Promptable segmentation as a service: encode an image once, answer every click in milliseconds.",
    **TYPER_OPTIONS,
)


@cli.callback()
def show_version(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and end.", is_eager=True, callback=print_version),
    ] = False,
) -> None:
    pass


# Of a process that SIGTERM has ended, as shells count: 128 and the signal's number.
TERMINATED_STATUS = 128 + signal.SIGTERM


class SigtermAsInterrupt:
    """Lets SIGTERM do what Ctrl-C does: what the command has started is stopped, and what it stored is deleted.

    Commands that serve have handlers of their own. received: whether it came.
    """

    def __init__(self) -> None:
        self.received = False
        signal.signal(signal.SIGTERM, self._interrupt)

    def _interrupt(self, number: int, frame: object) -> None:
        self.received = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the second one ends the process at once
        signal.raise_signal(signal.SIGINT)


def main() -> None:
    """Run a command. An error that the user can act on is printed as one line, without a traceback."""
    sigterm = SigtermAsInterrupt()
    try:
        cli()
    except SegserveError as error:
        option = f"{error.field}: " if (error.field or "").startswith("--") else ""
        typer.secho(f"segserve: {option}{error}", fg="red", err=True)
        sys.exit(1)
    except SystemExit:
        if sigterm.received:
            sys.exit(TERMINATED_STATUS)
        raise
    except BrokenPipeError:
        # The reader of our output is gone; os._exit skips the flush that would raise again.
        os._exit(1)


if __name__ == "__main__":
    main()
