"""The size of a JSON text in values and levels, counted before anything is built from it.

A parser builds a tree first and asks later: 30 MB of nested lists take 10 s and gigabytes, and hold Python's lock all
the while. Counting takes 4 ms/MB, and lets other threads run after each chunk.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput, TooLarge

# Far deeper than any request.
MAX_JSON_DEPTH = 32
# A batch of 100,000 images has a key for each, and up to four in each prompt. Each key can be a fault to keep.
MAX_JSON_KEYS = 1 << 19
CHUNK_BYTES = 256 << 10
IS_STRUCTURAL = np.zeros(256, np.bool_)
IS_STRUCTURAL[list(b"[]{},:")] = True


class JsonStructure(NamedTuple):
    """values: at most so many values are in the text, containers included. keys: of all objects together.
    depth: how deep containers are nested."""

    values: int
    keys: int
    depth: int


def scan_structure(data: bytes) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Yield the positions and the characters of brackets, commas and colons outside of strings, chunk by chunk.

    The text need not be valid.
    """
    start = 0
    is_quoted = 0  # 1 inside a string
    while start < len(data):
        chunk, offset = data[start : start + CHUNK_BYTES], start
        start += len(chunk)
        if b"\\" in chunk:
            if start < len(data) and (len(chunk) - len(chunk.rstrip(b"\\"))) % 2:
                chunk, start = chunk[:-1], start - 1  # an escape stays together
            chunk = chunk.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        characters = np.frombuffer(chunk, np.uint8)
        quoted = (np.cumsum(characters == ord('"')) + is_quoted) & 1
        if not quoted.size:
            continue
        is_quoted = int(quoted[-1])
        positions = np.flatnonzero(IS_STRUCTURAL[characters] & (quoted == 0))
        yield positions + offset, characters[positions]


def count_json(data: bytes) -> JsonStructure:
    """Count brackets and commas outside of strings. The text need not be valid."""
    commas = keys = containers = depth = level = 0
    for _, structure in scan_structure(data):
        commas += int(np.count_nonzero(structure == ord(",")))
        keys += int(np.count_nonzero(structure == ord(":")))
        opened = (structure == ord("[")) | (structure == ord("{"))
        closed = (structure == ord("]")) | (structure == ord("}"))
        containers += int(np.count_nonzero(opened))
        levels = level + np.cumsum(opened.astype(np.int8) - closed.astype(np.int8), dtype=np.int64)
        if levels.size:
            depth, level = max(depth, int(levels.max())), int(levels[-1])
    return JsonStructure(1 + commas + containers, keys, depth)


def bound_json(data: bytes) -> JsonStructure:
    """Return what `count_json` counts at most, at a hundredth of its time: what is in strings counts too."""
    containers = data.count(b"[") + data.count(b"{")
    return JsonStructure(1 + data.count(b",") + containers, data.count(b":"), containers)


def check_json_structure(data: bytes, max_values: int, max_keys: int = MAX_JSON_KEYS) -> None:
    """Raises TooLarge, or BadInput where the text is nested too deeply."""
    structure = bound_json(data)
    if structure.values <= max_values and structure.keys <= max_keys and structure.depth <= MAX_JSON_DEPTH:
        return
    structure = count_json(data)
    if structure.values > max_values:
        raise too_many_values(max_values)
    if structure.keys > max_keys:
        raise TooLarge(
            "The body holds more keys than any request needs.",
            field="body",
            remedy=f"Send at most {max_keys} keys.",
        )
    if structure.depth > MAX_JSON_DEPTH:
        raise BadInput(
            f"The body is nested in more than {MAX_JSON_DEPTH} levels.",
            field="body",
            remedy="Send the fields that /docs names.",
        )


def too_many_values(max_values: int) -> TooLarge:
    return TooLarge(
        "The body holds more values than any such request needs.",
        field="body",
        remedy=f"Send at most {max_values} values; masks as RLE or PNG.",
    )
