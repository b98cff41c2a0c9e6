"""Write the pages of the reference that say what the code says: docs/settings.md and docs/command-line.md.

python -m docs.site.reference        (make reference)
"""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import annotated_types
import typer
from pydantic.fields import FieldInfo

from segserve.cli import cli
from segserve.settings import Settings

DOCS = Path(__file__).parent.parent
NOTE = "<!-- Written by `make reference`. Change the code instead: {source}. -->\n"

SETTINGS_HEAD = """# Settings

Every setting of the service, as the code has it. [Operate](operate.md#settings) says more about those that belong
together.

Each one is an environment variable. Options of a command win over variables. Lists and mappings are JSON, quoted for
the shell: `SEGSERVE_ALLOWED_HOSTS='["segserve.example.org"]'`. Units are in the names: `_S` seconds, `_MS`
milliseconds, `_MB` megabytes, `_PX` pixels.
"""

COMMANDS_HEAD = """# Command line

Every command with its options, as `--help` has it. Some options are [settings](settings.md) too, and then the variable
is named.
"""


def cell(text: str) -> str:
    """Text for a cell of a table, in one line."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;").strip()


def describe_default(field: FieldInfo) -> str:
    if field.default_factory is not None or isinstance(field.default, Path):
        return "by the machine"
    if field.default is None:
        return "unset"
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def describe_bounds(field: FieldInfo) -> str:
    """Return the range of a number, such as "1 to 64"; empty for anything else."""
    low = high = ""
    for bound in field.metadata:
        if isinstance(bound, annotated_types.Ge):
            low = f"from {bound.ge}"
        elif isinstance(bound, annotated_types.Gt):
            low = f"above {bound.gt}"
        elif isinstance(bound, annotated_types.Le):
            high = f"to {bound.le}"
    return " ".join(filter(None, (low, high)))


def settings_by_section() -> Iterator[tuple[str, list[str]]]:
    """(title, names of fields) as the comments of the class part them."""
    title, names = "", []
    for line in inspect.getsource(Settings).splitlines():
        if match := re.fullmatch(r"    # (.+)\.", line):
            if names:
                yield title, names
            title, names = match[1], []
        elif (match := re.match(r"    (\w+): ", line)) and match[1] in Settings.model_fields:
            names.append(match[1])
    yield title, names


def write_settings() -> str:
    parts = [NOTE.format(source="service/segserve/settings.py"), SETTINGS_HEAD]
    for title, names in settings_by_section():
        parts.append(f"\n## {title}\n\n| variable | default | may be | meaning |\n|---|---|---|---|\n")
        for name in names:
            field = Settings.model_fields[name]
            meaning = cell(field.description or "")
            row = f"`SEGSERVE_{name.upper()}` | {describe_default(field)} | {describe_bounds(field)} | {meaning}"
            parts.append(f"| {row} |\n")
    return "".join(parts)


def argument_name(param: Any) -> str:
    return (param.metavar or param.name).upper()


def describe_option(param: Any) -> tuple[str, str]:
    """(how it is written, what it does) of an option or an argument."""
    names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
    if param.param_type_name == "argument":
        names = f"`{argument_name(param)}`"
    text = cell(param.help or "")
    if isinstance(param.envvar, str):
        text = f"{text} `{param.envvar}`"
    return names, text


def write_command(command: Any, words: tuple[str, ...]) -> Iterator[str]:
    """The section of a command, and those of the commands in it."""
    children = getattr(command, "commands", {})
    if words != ("segserve",):
        yield f"\n## {' '.join(words)}\n\n{inspect.cleandoc(command.help or '')}\n"
    params = [param for param in command.params if not getattr(param, "hidden", False)]
    if params and not children:
        arguments = [argument_name(param) for param in params if param.param_type_name == "argument"]
        yield f"\n`{' '.join([*words, *arguments])} [OPTIONS]`\n\n| | |\n|---|---|\n"
        for param in params:
            names, text = describe_option(param)
            yield f"| {names} | {text} |\n"
    for name, child in children.items():
        yield from write_command(child, (*words, name))


def write_commands() -> str:
    parts = [NOTE.format(source="service/segserve/commands/"), COMMANDS_HEAD]
    return "".join([*parts, *write_command(typer.main.get_command(cli), ("segserve",))])


PAGES = {"settings.md": write_settings, "command-line.md": write_commands}


if __name__ == "__main__":
    for name, write in PAGES.items():
        (DOCS / name).write_text(write())
