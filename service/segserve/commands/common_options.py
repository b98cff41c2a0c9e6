"""Options that most commands share: the data folder, the model, `--param name=value`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from segserve import logs
from segserve.errors import BadInput
from segserve.settings import Settings, find_unknown_variables, load_settings

DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="SEGSERVE_DATA_DIR",
        help="Folder of images, pulled models and the private Redis. Commands without a server keep nothing in it.",
    ),
]
Model = Annotated[
    str | None, typer.Option(envvar="SEGSERVE_DEFAULT_MODEL", help="Name of the model [default: starter].")
]

PolygonTolerance = Annotated[
    float | None,
    typer.Option(
        "--tolerance",
        help="Of the format polygon, in pixels: vertices are left out as long as no line moves further.",
    ),
]


def parse_params(texts: list[str], option: str = "--param") -> dict[str, Any]:
    """Parse name=value pairs: ["min_size=50"] -> {"min_size": 50}.

    Raises BadInput that names the option.
    """
    params = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            params[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise BadInput(
                f"{text!r} is not name=value.", field=option, remedy=f"Example: {option} min_size=50."
            ) from None
    return params


def parse_numbers(text: str, count: int, option: str) -> list[float]:
    """Parse `count` numbers with commas between: "120,80" -> [120, 80].

    Raises BadInput that names the option.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count:
        raise BadInput(
            f"{text!r} is not {count} numbers with commas between.", field=option, remedy="Example: 120,80."
        )
    return values


def print_hints(hints: Sequence[str]) -> None:
    """Print the hints of an answer on stderr."""
    for hint in hints:
        typer.secho(hint, fg="yellow", err=True)


def load_quiet_settings(**options: Any) -> Settings:
    """Load the settings, and log nothing but errors: the command prints its own result.

    Raises BadInput that names the setting at fault.
    """
    settings = load_settings(**options)
    logs.configure_logging(settings.log_format, "error")
    for warning in list_unknown_variables():
        typer.secho(f"segserve: {warning}", fg="yellow", err=True)
    return settings


def list_unknown_variables() -> list[str]:
    """Return a sentence for each variable SEGSERVE_... of the environment that is no setting: mostly a misspelling."""
    return [
        f"{name} is no setting, and has no effect." + (f" Is {meant} meant?" if meant else "")
        for name, meant in find_unknown_variables(os.environ).items()
    ]
