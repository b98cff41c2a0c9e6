"""Compare the names and shapes of a checkpoint's tensors with those of an architecture."""

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from segserve.errors import BadInput

# Names of keys in an error message.
MAX_LISTED_KEYS = 3

Shapes = Mapping[str, tuple[int, ...]]


def to_float32(state: Mapping[str, NDArray[Any]], names: Iterable[str], what: str) -> dict[str, NDArray[Any]]:
    """Return the tensors of those names as float32. Raises BadInput for one that holds no floating-point numbers."""
    tensors = {name: state[name] for name in names}
    other = [name for name, tensor in tensors.items() if tensor.dtype.kind != "f"]
    if other:
        raise BadInput(
            f"This is not a checkpoint of {what}: {other[0]} is of {tensors[other[0]].dtype}.",
            field="checkpoint",
            remedy="Its weights must be floating-point numbers: quantised checkpoints are not read.",
        )
    return {name: tensor.astype("float32", copy=False) for name, tensor in tensors.items()}


def check_tensors(
    shapes: Shapes, expected: Shapes, what: str, parts: Iterable[str], known: Iterable[str] = ()
) -> None:
    """Raise BadInput for a missing, misshapen or unknown tensor.

    shapes, expected: of the checkpoint and of the architecture, by name.
    what: the name of the architecture, for the message.
    parts: prefixes of the architecture's own parts. An unknown key under them (adapters, LoRA) is refused, because
        without it the model would silently change. Any other unknown key is left out.
    known: more keys under `parts` that may be there.
    """
    missing = [key for key in expected if key not in shapes]
    misshapen = [
        f"{k} is {shapes[k]}, expected {expected[k]}"
        for k in expected
        if k in shapes and shapes[k] != expected[k]
    ]
    unknown = [k for k in shapes if k not in {*expected, *known} and k.startswith(tuple(parts))]
    for problem, keys in (("lacks", missing), ("has another shape:", misshapen), ("has more than", unknown)):
        if keys:
            more = f" and {len(keys) - MAX_LISTED_KEYS} more" if len(keys) > MAX_LISTED_KEYS else ""
            raise BadInput(
                f"This is not a checkpoint of {what}: it {problem} {', '.join(keys[:MAX_LISTED_KEYS])}{more}.",
                field="checkpoint",
                remedy="Check the kind and the --variant.",
            )
