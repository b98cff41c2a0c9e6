"""Check a large JSON body piece by piece: the body without most children of its largest list or mapping, then these.

Pydantic holds Python's lock while it parses and checks a text, 0.2 to 2 s for a large job. No request is answered
meanwhile. Between two pieces other threads run.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
from annotated_types import MaxLen
from numpy.typing import NDArray
from pydantic import BaseModel, RootModel, TypeAdapter, ValidationError

from segserve.errors import BadInput, TooLarge
from segserve.wire.http.json_structure import check_json_structure, scan_structure, too_many_values
from segserve.wire.http.limits import MAX_EVENT_LOOP_JSON_BYTES
from segserve.wire.http.problems import MAX_KNOWN_FAULTS
from segserve.wire.schemas.common import PieceLimits

Body = TypeVar("Body", bound=BaseModel)

# Children are checked together up to this many values: some milliseconds.
PIECE_VALUES = 4096
# One child has at most this many: an object with a thousand prompts of five points.
MAX_CHILD_VALUES = 1 << 15
# Of the body without the pieces: the ids and names of 100,000 images, and the options of one operation.
MAX_HEAD_VALUES = 1 << 18
MAX_HEAD_KEYS = 1 << 14
# Of the mappings on the way to the container.
MAX_MEMBERS = 1024


@dataclass(frozen=True)
class Piece:
    """Some children of the container, one after the other. content: their JSON, as a container of its own."""

    first: int
    count: int
    content: bytes


@dataclass(frozen=True)
class SplitJson:
    """path: of the container. head: the body with the children of the first piece only. rest: the other pieces."""

    path: tuple[str, ...]
    head: bytes
    rest: list[Piece]


class JsonIndex:
    """`JsonIndex` holds the structural characters of a JSON text: their positions, and the levels after each."""

    def __init__(self, data: bytes) -> None:
        parts = list(scan_structure(data))
        self._data = data
        self.positions = np.concatenate([np.zeros(0, np.int64), *(positions for positions, _ in parts)])
        self.characters = np.concatenate([np.zeros(0, np.uint8), *(characters for _, characters in parts)])
        opened = (self.characters == ord("[")) | (self.characters == ord("{"))
        closed = (self.characters == ord("]")) | (self.characters == ord("}"))
        self.levels = np.cumsum(opened.astype(np.int32) - closed.astype(np.int32), dtype=np.int32)
        # As `count_json` counts them.
        self.values_before = np.cumsum(opened | (self.characters == ord(",")), dtype=np.int64)

    def find_end(self, start: int) -> int | None:
        """Return the index of the bracket that closes the one at index `start`."""
        after = self.levels[start + 1 :] < self.levels[start]
        end = start + 1 + int(after.argmax()) if after.any() else None
        pairs = {ord("{"): ord("}"), ord("["): ord("]")}
        return end if end is not None and self.characters[end] == pairs[int(self.characters[start])] else None

    def find_separators(self, start: int, end: int, character: str) -> NDArray[np.int64]:
        """Return the indices of a character directly inside the container from `start` to `end`."""
        inside = slice(start + 1, end)
        found = (self.levels[inside] == self.levels[start]) & (self.characters[inside] == ord(character))
        return np.flatnonzero(found) + start + 1

    def find_member(self, start: int, name: str) -> int | None:
        """Return the index of the bracket that opens the member `name` of the mapping at index `start`.

        Raises TooLarge where the mapping has too many members, BadInput where it has the name twice.
        """
        end = self.find_end(start)
        if end is None or self.characters[start] != ord("{"):
            return None
        commas, colons = (self.find_separators(start, end, character) for character in ",:")
        if len(colons) > MAX_MEMBERS:
            raise too_many_keys()
        begins = [start, *commas.tolist()]
        if len(begins) != len(colons):
            return None
        found = [c for b, c in zip(begins, colons.tolist(), strict=True) if self._read_key(b, c) == name]
        if len(found) > 1:
            raise BadInput(f"The key {name!r} is there twice.", field="body", remedy="Send it once.")
        if not found or found[0] + 1 >= len(self.positions):
            return None
        value = found[0] + 1
        between = self._data[self.positions[found[0]] + 1 : self.positions[value]]
        is_container = chr(self.characters[value]) in "[{" and not between.strip()
        return value if is_container else None

    def _read_key(self, before: int, colon: int) -> object:
        """Return the key that ends at index `colon`."""
        begin, end = int(self.positions[before]) + 1, int(self.positions[colon])
        try:
            return json.loads(self._data[begin:end]) if end - begin < 1024 else None
        except ValueError:
            return None

    def split(self, start: int, max_values: int) -> tuple[bytes, list[Piece]]:
        """Return the body with the first piece of the container at index `start` only, and the other pieces.

        Raises TooLarge where the container or a child of it has too many values.
        """
        end = self.find_end(start)
        if end is None:
            return self._data, []
        marks = np.concatenate([[start], self.find_separators(start, end, ","), [end]])
        edges, values = self.positions[marks].tolist(), np.diff(self.values_before[marks]).tolist()
        if sum(values) > max_values:
            raise too_many_values(max_values)
        if max(values) > MAX_CHILD_VALUES:
            raise too_many_values(MAX_CHILD_VALUES)
        opening, closing = self._data[edges[0] : edges[0] + 1], self._data[edges[-1] : edges[-1] + 1]
        pieces = [
            Piece(first, last - first, opening + self._data[edges[first] + 1 : edges[last]] + closing)
            for first, last in group_children(values)
        ]
        if len(pieces) == 1:
            return self._data, []
        return self._data[: edges[0]] + pieces[0].content + self._data[edges[-1] + 1 :], pieces[1:]


def group_children(values: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of children that have PIECE_VALUES values together, or a little more."""
    first, total = 0, 0
    for number, count in enumerate(values):
        total += count
        if total >= PIECE_VALUES:
            yield first, number + 1
            first, total = number + 1, 0
    if first < len(values):
        yield first, len(values)


def too_many_keys() -> TooLarge:
    return TooLarge(
        "The body holds more keys than any such request needs.",
        field="body",
        remedy=f"Send at most {MAX_MEMBERS} keys beside each other.",
    )


def split_json(data: bytes, limits: PieceLimits) -> SplitJson:
    """Split a JSON text at the largest of the containers that `limits` name. Raises TooLarge, BadInput.

    A text that is not valid JSON is split anyhow, or not: then the head, or a piece, is not valid either.
    """
    index, largest = JsonIndex(data), SplitJson((), data, [])
    for path, max_values in limits.items():
        start: int | None = 0 if len(index.positions) else None
        for name in path:
            start = None if start is None else index.find_member(start, name)
        if start is not None:
            head, rest = index.split(start, max_values)
            if len(head) < len(largest.head):
                largest = SplitJson(path, head, rest)
    return largest


def validate_text(data: bytes, schema: type[Body], limits: PieceLimits) -> Body:
    """Check a JSON text as `schema.model_validate_json` does, in pieces where it is large. Blocks.

    Raises ValidationError, and for large texts TooLarge and BadInput.
    """
    if limits and len(data) > MAX_EVENT_LOOP_JSON_BYTES:
        return validate_in_pieces(data, schema, limits)
    return schema.model_validate_json(data)


def validate_in_pieces(data: bytes, schema: type[Body], limits: PieceLimits) -> Body:
    """Check a JSON text as `schema.model_validate_json` does. Raises TooLarge, BadInput, ValidationError."""
    split = split_json(data, limits)
    check_json_structure(split.head, MAX_HEAD_VALUES, MAX_HEAD_KEYS)
    body = schema.model_validate_json(split.head)
    if not split.rest:
        return body
    parent: Any = body.root if isinstance(body, RootModel) else body
    for name in split.path[:-1]:
        parent = getattr(parent, name)
    field = type(parent).model_fields[split.path[-1]]
    container = getattr(parent, split.path[-1])
    count = split.rest[-1].first + split.rest[-1].count
    max_count = next((limit.max_length for limit in field.metadata if isinstance(limit, MaxLen)), count)
    if count > max_count:
        raise TooLarge(
            f"There are {count} entries.",
            field=".".join(split.path),
            remedy=f"Send at most {max_count} in one request.",
        )
    try:
        for piece in split.rest:
            add_children(container, piece, split.path, field.annotation)
    except BaseException:
        empty_slowly(container)
        raise
    return body


def empty_slowly(container: Any) -> None:
    """Take all children out one by one: freed all together, they hold Python's lock for long."""
    while container:
        if isinstance(container, dict):
            container.popitem()
        else:
            container.pop()


@asynccontextmanager
async def freed_slowly(body: BaseModel, limits: PieceLimits, size_bytes: int) -> AsyncIterator[None]:
    """Free a large body piece by piece in a thread, once the block has ended. size_bytes: of its text or message."""
    try:
        yield
    finally:
        if size_bytes > MAX_EVENT_LOOP_JSON_BYTES:
            await asyncio.to_thread(free_pieces, body, limits)


def free_pieces(body: BaseModel, limits: PieceLimits) -> None:
    """Empty the containers of a body that nobody needs any more. Blocks."""
    root = body.root if isinstance(body, RootModel) else body
    for path in limits:
        container = root
        for name in path:
            container = getattr(container, name, None)
        empty_slowly(container)


def add_children(container: Any, piece: Piece, path: tuple[str, ...], kind: Any) -> None:
    """Check a piece, and add its children to the container, which is of a `kind`.

    Raises ValidationError, BadInput.
    """
    try:
        children = make_adapter(kind).validate_json(piece.content)
    except ValidationError as error:
        raise relocate(error, path, piece.first) from None
    expected = len(container) + piece.count
    if isinstance(container, dict):
        container.update(cast(dict[str, Any], children))
    else:
        container.extend(cast(list[Any], children))
    if len(container) != expected:
        raise BadInput(
            "An entry is empty, or a key is there twice.",
            field=".".join(path),
            remedy="Send each entry once.",
        )


@cache
def make_adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def relocate(error: ValidationError, path: tuple[str, ...], first: int) -> ValidationError:
    """Return the error of a piece as one of the body. first: number of the piece's first child."""
    if error.error_count() > MAX_KNOWN_FAULTS:
        return error
    faults: list[Any] = error.errors(include_url=False, include_input=False)
    for fault in faults:
        fault["input"] = None
        where = fault["loc"]
        if where and isinstance(where[0], int):
            where = (where[0] + first, *where[1:])
        fault["loc"] = (*path, *where)
    return ValidationError.from_exception_data(error.title, faults)
