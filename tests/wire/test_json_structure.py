"""JSON is counted before it is parsed: as many values, and as deep, as a parser finds."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segserve.errors import BadInput, TooLarge
from segserve.wire.http import json_structure
from segserve.wire.http.json_structure import MAX_JSON_DEPTH, MAX_JSON_KEYS, check_json_structure, count_json

TEXT = st.text(alphabet='ab\\",[]{}:\n\u00e9', max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=30)


def count_values(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(count_values(child) for child in children)


def count_keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(count_keys, value.values()))
    return sum(map(count_keys, value)) if isinstance(value, list) else 0


def measure_depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    children = value.values() if isinstance(value, dict) else value
    return 1 + max((measure_depth(child) for child in children), default=0)


@given(value=VALUES, chunk=st.integers(2, 9), ascii_only=st.booleans())
def test_values_and_depth_are_those_of_the_parsed_text(value: Any, chunk: int, ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    before, json_structure.CHUNK_BYTES = json_structure.CHUNK_BYTES, chunk
    try:
        counted = count_json(data)
    finally:
        json_structure.CHUNK_BYTES = before
    assert counted.depth == measure_depth(value)
    assert counted.keys == count_keys(value)
    # An empty container counts as if it had a value.
    assert count_values(value) <= counted.values <= 2 * count_values(value)
    assert counted == count_json(data)


@pytest.mark.parametrize("data", [b"", b'"', b"\\", b'"\\', b"]]]]", b"{{{{", b'"\\"\\"', b"\xff\xfe"])
def test_any_bytes_can_be_counted(data: bytes) -> None:
    count_json(data)
    count_json(data * 300_000)


def test_all_limits_hold_exactly() -> None:
    check_json_structure(b"[1,2,3]", 4)
    with pytest.raises(TooLarge, match="more values"):
        check_json_structure(b"[1,2,3]", 3)
    body = b'{"":0,' * 2
    with pytest.raises(TooLarge, match="keys"):
        check_json_structure(body * (MAX_JSON_KEYS // 2 + 1), 1 << 30)
    check_json_structure(b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH, 1000)
    with pytest.raises(BadInput, match="levels"):
        check_json_structure(b"[" * (MAX_JSON_DEPTH + 1), 1000)
