"""The commands of `segserve` by name. A command's module is imported when it is run, not when another is."""

import gc
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import typer
from typer.core import TyperGroup

# What every command and group of the command line is made with.
TYPER_OPTIONS: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,  # rich reads "[default: ...]" in a help text as markup and drops it
}


class Command(NamedTuple):
    """A command, or a group of commands.

    where: "module:name" of its function, or of its group. summary: the first sentence of its help.
    """

    where: str
    summary: str


COMMANDS = {
    "serve": Command("segserve.commands.serve:serve", "Start the service."),
    "encoder": Command("segserve.commands.encoder:encoder", "Start an encoder worker."),
    "worker": Command("segserve.commands.worker:worker", "Start a job worker."),
    "demo": Command(
        "segserve.commands.demo:demo", "Start the service and show three clicks on a sample picture."
    ),
    "doctor": Command("segserve.commands.doctor:doctor", "Check what this machine has and what is missing."),
    "segment": Command("segserve.commands.segment:segment", "Segment one object of an image."),
    "automatic": Command(
        "segserve.commands.automatic:automatic", "Find all objects of an image without prompts."
    ),
    "similar": Command("segserve.commands.similar:similar", "Find more objects like a few examples."),
    "semantic": Command("segserve.commands.semantic:semantic", "Give every pixel of an image a class."),
    "instances": Command(
        "segserve.commands.instances:instances", "Find the objects of known classes on an image."
    ),
    "batch": Command("segserve.commands.batch:batch", "Run one operation on many images."),
    "video": Command("segserve.commands.video:video", "Follow objects through a video."),
    "volume": Command(
        "segserve.commands.volume:volume", "Follow objects through a volume, or find all of them."
    ),
    "track": Command(
        "segserve.commands.track:track", "Find all objects of every frame and link them to tracks."
    ),
    "usage": Command("segserve.commands.usage:usage", "Show what a tenant has used."),
    "keys": Command("segserve.commands.keys:app", "Add, list, revoke and rotate keys."),
    "tenants": Command("segserve.commands.tenants:app", "List, show and delete tenants."),
    "models": Command("segserve.models.cli:app", "List, import, pull, verify and remove models."),
    "evaluate": Command(
        "segserve.commands.evaluate:app", "Score masks, or a model, on images with ground truth."
    ),
    "train": Command("segserve.train.cli:app", "Train models on your own images and masks."),
}


class LoadedWhenUsed(Mapping[str, Any]):
    """`LoadedWhenUsed` maps names of commands to commands as Typer makes them. Getting one imports its module."""

    def __getitem__(self, name: str) -> Any:
        return make_command(name, COMMANDS[name].where)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def make_command(name: str, where: str) -> Any:
    """Return a command, or a group, as Typer makes it."""
    found, group = import_command(where), typer.Typer(**TYPER_OPTIONS)
    if isinstance(found, typer.Typer):
        group.add_typer(found, name=name)
    else:
        group.command(name)(found)
    return typer.main.get_group(group).commands[name]


def import_command(where: str) -> Any:
    """Import a command or a group. The garbage collector rests meanwhile: what modules make stays, and visiting it all
    again and again takes a tenth of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return pkgutil.resolve_name(where)
    finally:
        if collects:
            gc.enable()


class CommandTable(TyperGroup):
    """`CommandTable` is the group of all commands: its help imports none of them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = cast(Any, LoadedWhenUsed())  # nothing is added to them

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])
