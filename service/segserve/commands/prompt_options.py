"""Points and boxes on frames or slices, as they are written on the command line."""

import re
from typing import Any

from segserve.commands.segment import numbers
from segserve.errors import BadInput

PLACED = re.compile(r"(?:(?P<object>[1-9][0-9]{0,8}):)?(?P<values>[^@:]+)@(?P<at>[0-9]{1,9})")
Objects = list[dict[str, Any]]


def objects_of(points: list[str], negatives: list[str], boxes: list[str], word: str) -> Objects:
    """["2:120,80@5"] -> what a job's params call objects: of each, its prompts by frame. word: frame or slice. Raises
    BadInput naming the option at fault."""
    found: dict[int, dict[int, dict[str, Any]]] = {}

    def prompt(text: str, count: int, option: str) -> tuple[dict[str, Any], list[float]]:
        number, at, values = placed(text, count, option, word)
        return found.setdefault(number, {}).setdefault(at, {word: at}), values

    for option, given, label in (("--point", points, 1), ("--negative", negatives, 0)):
        for text in given:
            into, values = prompt(text, 2, option)
            into.setdefault("points", []).append(values)
            into.setdefault("labels", []).append(label)
    for text in boxes:
        into, values = prompt(text, 4, "--box")
        if "box" in into or not (values[0] < values[2] and values[1] < values[3]):
            raise BadInput(
                f"{text!r} is empty, reversed, or the second of its object on its {word}.",
                field="--box",
                remedy=f"Give one x0,y0,x1,y1@{word} with x0 < x1, y0 < y1.",
            )
        into["box"] = values
    return [
        {"object_id": number, "prompts": [prompts[at] for at in sorted(prompts)]}
        for number, prompts in sorted(found.items())
    ]


def placed(text: str, count: int, option: str, word: str) -> tuple[int, int, list[float]]:
    """(object, frame, numbers)."""
    example = ",".join(["x", "y"] if count == 2 else ["x0", "y0", "x1", "y1"]) + f"@{word}"
    if (match := PLACED.fullmatch(text.strip())) is None:
        raise BadInput(
            f"{text!r} is not {example}, nor N:{example} for object N.",
            field=option,
            remedy=f"Example: {option} 2:{'120,80' if count == 2 else '100,60,140,100'}@5.",
        )
    values = numbers(match["values"], count, option)
    return int(match["object"] or 1), int(match["at"]), values
