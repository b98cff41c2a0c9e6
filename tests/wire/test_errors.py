"""The error tree: it is drawn whole, and both tables that translate it for clients have a row for every branch."""

import re
from collections.abc import Iterator

import grpc
import pytest

from segserve import errors
from segserve.errors import BadInput, MissingDependency, SegserveError
from segserve.wire.grpc.errors import CODES, status_code
from segserve.wire.http.problems import STATUSES, InvalidRequest, error_to_response


def descendants(kind: type[SegserveError]) -> Iterator[type[SegserveError]]:
    """All classes below `kind` that segserve.errors defines."""
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from descendants(child)


CLASSES = list(descendants(SegserveError))
BRANCHES = [kind for kind in CLASSES if kind.__base__ is SegserveError]
LEAVES = [kind for kind in CLASSES if not kind.__subclasses__()]


def create(kind: type[SegserveError]) -> SegserveError:
    """An instance without a call of its __init__, whose parameters differ from class to class."""
    if kind is MissingDependency:  # it is told to clients in other words
        return MissingDependency("a package", "extra", "Something")
    error = kind.__new__(kind)
    error.__dict__.update(message="", remedy="", field=None, retry_after_s=1)
    return error


def test_the_docstring_draws_the_whole_tree() -> None:
    drawn, parents = {}, {-1: "SegserveError"}
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    ((?:│   |    )*)[├└]── (\w+)", line):
            depth = len(match[1]) // 4
            parents[depth] = match[2]
            drawn[match[2]] = parents[depth - 1]
    assert drawn == {kind.__name__: (kind.__base__ or object).__name__ for kind in CLASSES}


@pytest.mark.parametrize("kind", BRANCHES)
def test_every_branch_has_a_row_in_both_tables(kind: type[SegserveError]) -> None:
    assert kind in [row for row, _ in STATUSES]
    assert kind in [row for row, _ in CODES]


@pytest.mark.parametrize("kind", LEAVES)
def test_no_error_ends_at_the_last_resort(kind: type[SegserveError]) -> None:
    assert error_to_response(create(kind)).status_code != 500
    assert status_code(create(kind)) is not grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize("table", [STATUSES, CODES])
def test_no_row_is_hidden_by_one_before_it(table: list[tuple[type[SegserveError], object]]) -> None:
    rows = [kind for kind, _ in table]
    for index, kind in enumerate(rows):
        assert not any(issubclass(kind, before) for before in rows[:index])


def test_codes_differ_unless_a_class_inherits_its_parents() -> None:
    codes = [kind.code for kind in CLASSES if "code" in vars(kind)]
    assert len(codes) == len(set(codes))


def test_a_request_with_several_faults_is_bad_input() -> None:
    error = InvalidRequest([{"loc": ("prompts", 0), "msg": "Value error, empty"}], "/docs")
    assert isinstance(error, BadInput)
    assert (error.field, error.message) == ("prompts.0", "prompts.0: empty.")


def test_what_the_client_sent_is_shortened() -> None:
    error = errors.ImageNotFound("a" * 100_000)
    assert len(error.message) < 2000
    assert error.message in str(error)
    assert len(BadInput("no", field="a." * 1000).field or "") < 300


@pytest.mark.parametrize(
    "kind", [errors.ImageNotFound, errors.FileNotFound, errors.JobNotFound, errors.MaskNotFound]
)
def test_a_long_id_is_not_echoed_whole(kind: type[errors.NotFound]) -> None:
    error = kind("a" * 5000)  # type: ignore[call-arg]
    assert "aaa...'" in error.message
    assert len(error.message) < 250
    assert kind("0123" * 16).message.count("0123" * 16) == 1, "an id of ours is whole"  # type: ignore[call-arg]
