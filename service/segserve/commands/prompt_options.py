"""Prompts on frames or slices as options: `--point`, `--negative` and `--box` of `segserve video` and `volume`."""

import re
from typing import Annotated, Any

import typer

from segserve.commands.common_options import parse_numbers
from segserve.errors import BadInput

Point = Annotated[
    list[str] | None,
    typer.Option(help="x,y@FRAME on the object, or N:x,y@FRAME on object N. Can be repeated."),
]
Negative = Annotated[
    list[str] | None, typer.Option(help="The same for a point that is not on the object. Can be repeated.")
]
Box = Annotated[
    list[str] | None,
    typer.Option(help="x0,y0,x1,y1@FRAME around the object, or N:x0,y0,x1,y1@FRAME. Can be repeated."),
]

# "2:120,80@5": object 2, the numbers, frame 5
PROMPT = re.compile(r"(?:(?P<object>[1-9][0-9]{0,8}):)?(?P<values>[^@:]+)@(?P<frame>[0-9]{1,9})")
ObjectPrompts = list[dict[str, Any]]


def parse_objects(points: list[str], negatives: list[str], boxes: list[str], unit: str) -> ObjectPrompts:
    """Parse the options into `params.objects` of a job: for each object its prompts, by frame.

    points, negatives, boxes: such as ["2:120,80@5"]. unit: "frame" or "slice".

    Raises BadInput that names the option at fault.
    """
    objects: dict[int, dict[int, dict[str, Any]]] = {}

    def get_prompt(text: str, count: int, option: str) -> tuple[dict[str, Any], list[float]]:
        object_id, frame, values = parse_prompt(text, count, option, unit)
        return objects.setdefault(object_id, {}).setdefault(frame, {unit: frame}), values

    for option, texts, label in (("--point", points, 1), ("--negative", negatives, 0)):
        for text in texts:
            prompt, values = get_prompt(text, 2, option)
            prompt.setdefault("points", []).append(values)
            prompt.setdefault("labels", []).append(label)
    for text in boxes:
        prompt, values = get_prompt(text, 4, "--box")
        if "box" in prompt or not (values[0] < values[2] and values[1] < values[3]):
            raise BadInput(
                f"{text!r} is empty, reversed, or the second box of its object on this {unit}.",
                field="--box",
                remedy=f"Give one x0,y0,x1,y1@{unit} with x0 < x1, y0 < y1.",
            )
        prompt["box"] = values
    return [
        {"object_id": object_id, "prompts": [prompts[frame] for frame in sorted(prompts)]}
        for object_id, prompts in sorted(objects.items())
    ]


def parse_prompt(text: str, count: int, option: str, unit: str) -> tuple[int, int, list[float]]:
    """Parse one option -> (object_id, frame, its `count` numbers)."""
    example = ",".join(["x", "y"] if count == 2 else ["x0", "y0", "x1", "y1"]) + f"@{unit}"
    if (match := PROMPT.fullmatch(text.strip())) is None:
        raise BadInput(
            f"{text!r} is not {example}, nor N:{example} for object N.",
            field=option,
            remedy=f"Example: {option} 2:{'120,80' if count == 2 else '100,60,140,100'}@5.",
        )
    values = parse_numbers(match["values"], count, option)
    return int(match["object"] or 1), int(match["frame"]), values
