"""A large body is checked piece by piece, with the same outcome as if it were checked at once."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from segserve.errors import BadInput, TooLarge
from segserve.wire.http import json_pieces
from segserve.wire.http.json_pieces import (
    MAX_CHILD_VALUES,
    MAX_HEAD_KEYS,
    MAX_MEMBERS,
    split_json,
    validate_in_pieces,
)
from segserve.wire.schemas.common import MAX_OBJECTS_VALUES
from segserve.wire.schemas.jobs import JobIn
from segserve.wire.schemas.propagation import MAX_OBJECTS, AddPromptsIn


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_pieces, "PIECE_VALUES", 20)


def make_objects(count: int, prompts: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "object_id": number + 1,
            "prompts": [{"frame": frame, "box": [1, 2, 3, 4.5]} for frame in range(prompts)],
        }
        for number in range(count)
    ]


def make_video(objects: Any) -> dict[str, Any]:
    return {
        "kind": "video",
        "input": {"file_id": "f"},
        "params": {"direction": "forward", "objects": objects},
    }


def make_batch(prompts: Any) -> dict[str, Any]:
    params = {"operation": "segment", "prompts": prompts}
    return {"kind": "batch", "input": {"file_id": "f"}, "params": params}


def check(body: Any, schema: Any = JobIn, **style: Any) -> Any:
    text = body if isinstance(body, str) else json.dumps(body, **style)
    return validate_in_pieces(text.encode(), schema, schema.pieces)


def bodies() -> Iterator[tuple[Any, Any]]:
    names = ["a", 'q"uo\\te', "]}", "\u00e9\u4e2d", ",", ""]
    prompts = {name * 2 + str(n): [{"points": [[n, 2]], "labels": [1]}] for n in range(12) for name in names}
    yield JobIn, make_batch(prompts)
    yield JobIn, make_video(make_objects(40))
    yield JobIn, make_video(make_objects(1))
    yield AddPromptsIn, {"objects": make_objects(40)}


@pytest.mark.parametrize(("schema", "body"), list(bodies()), ids=["prompts", "objects", "one", "added"])
@pytest.mark.parametrize(
    "style",
    [{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}],
    ids=["usual", "indented", "dense", "unicode"],
)
def test_the_outcome_is_that_of_the_whole_text(schema: Any, body: Any, style: dict[str, Any]) -> None:
    text = json.dumps(body, **style)
    assert check(text, schema) == schema.model_validate_json(text)
    escaped = text.replace('"params"', '"\\u0070arams"')
    assert check(escaped, schema) == schema.model_validate_json(text)


def test_pieces_are_small() -> None:
    text = json.dumps(make_video(make_objects(40))).encode()
    split = split_json(text, JobIn.pieces)
    assert split.path == ("params", "objects")
    assert len(split.rest) == 19
    assert sum(piece.count for piece in split.rest) + len(json.loads(split.head)["params"]["objects"]) == 40
    assert max(len(piece.content) for piece in split.rest) < 300 > len(split.head) - 100


def test_faults_name_the_field_of_the_body() -> None:
    objects = make_objects(40)
    objects[33]["prompts"][1]["box"] = [1, 2, 3, "x"]
    with pytest.raises(ValidationError) as caught:
        check(make_video(objects))
    assert caught.value.errors()[0]["loc"] == ("params", "objects", 33, "prompts", 1, "box", 3)
    prompts = {f"n{number}": [{"points": [[1, 2]]}] for number in range(40)}
    with pytest.raises(ValidationError) as caught:
        check(make_batch({**prompts, "n30": [{"points": [[1, "x"]]}]}))
    assert caught.value.errors()[0]["loc"] == ("params", "prompts", "n30", 0, "points", 0, 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("]}}", ",]}}"),  # an empty child at the end
        ("}, {", "},, {"),
        ("}, {", "} {"),
        ("]}}", "]}]"),
        ("]}}", "]}} x"),
        ("]}}", "]}"),
        ('"object_id": 7', '"object_id": 07'),
        ('"object_id": 7', '"object_id": 7]'),
    ],
)
def test_text_that_is_not_json_is_refused(before: str, after: str) -> None:
    text = json.dumps(make_video(make_objects(40)))
    with pytest.raises((ValidationError, BadInput)):
        check(after.join(text.rsplit(before, 1)))


def test_nothing_is_there_twice() -> None:
    text = json.dumps(make_batch({f"n{number}": [{"points": [[1, 2]]}] for number in range(40)}))
    with pytest.raises(BadInput, match="twice"):
        check(text.replace('"n30"', '"n3"'))
    with pytest.raises(BadInput, match="twice"):
        check(json.dumps(make_video(make_objects(9)))[:-1] + ', "params": {}}')


def test_every_part_is_bounded() -> None:
    with pytest.raises(TooLarge, match=str(MAX_OBJECTS + 1)):
        check(make_video(make_objects(MAX_OBJECTS + 1)))
    with pytest.raises(TooLarge):
        check({**make_video(make_objects(2)), **{f"k{number}": 1 for number in range(MAX_MEMBERS)}})
    nested = {"options": {"deep": {f"k{number}": 1 for number in range(MAX_HEAD_KEYS + 1)}}}
    with pytest.raises(TooLarge):
        check({"kind": "batch", "input": {"file_id": "f"}, "params": {"operation": "embed", **nested}})
    one = make_objects(2)
    one[0]["prompts"][0]["points"] = [[1, 2]] * MAX_CHILD_VALUES
    with pytest.raises(TooLarge):
        check(make_video(one))
    with pytest.raises(TooLarge):
        check(make_video(make_objects(200, MAX_OBJECTS_VALUES // 1000)))
