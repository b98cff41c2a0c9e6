"""Messages of gRPC are counted before they are built, and malformed ones are refused as invalid."""

from contextlib import suppress

import pytest
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from segserve.errors import BadInput, TooLarge
from segserve.v1 import jobs_pb2, segmentation_pb2
from segserve.wire.grpc.message_structure import MAX_FIELDS, check_fields, parse
from segserve.wire.schemas.common import MAX_BODY_VALUES

SEGMENT = segmentation_pb2.SegmentRequest
MALFORMED = {
    "no varint": b"\xff" * 1000,
    "truncated varint": b"\x0a\xff\xff\xff\xff\x0f",
    "truncated string": b"\x0a\x05ab",
    "groups": b"\x13" * 1_000_000,
    "text that is not UTF-8": b"\x0a\x02\xff\xfe",
    "truncated number": b"\x0d\x01",
    "field 0": b"\x00\x01",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_messages_are_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match="malformed"):
        parse(data, SEGMENT)


def test_what_is_well_formed_is_read() -> None:
    point = segmentation_pb2.Point(x=1.5, y=-2, negative=True)
    message = SEGMENT(image_id="a", prompts=[segmentation_pb2.Prompt(points=[point] * 9)], multimask=True)
    assert parse(message.SerializeToString(), SEGMENT) == message
    unknown = b"\x82\x7d\x03abc" + message.SerializeToString()  # a field of a later version
    assert parse(unknown, SEGMENT).image_id == "a"
    options = Struct()
    options.update({"a": [1, {"b": [True, None, "x"]}]})
    batch = jobs_pb2.Batch(image_ids=["a"] * 100, operation="embed", options=options)
    job = jobs_pb2.SubmitJobRequest(batch=batch)
    assert parse(job.SerializeToString(), jobs_pb2.SubmitJobRequest) == job


@given(data=st.binary(max_size=60))
def test_what_passes_the_count_is_read_or_malformed(data: bytes) -> None:
    with suppress(BadInput):
        parse(data, SEGMENT)


@pytest.mark.parametrize(
    "padding", [b"\x1a\x00", b"\x82\x7d\x00", b"\x1a\x02\x0a\x00"], ids=["prompts", "unknown", "points"]
)
def test_the_limit_of_fields_holds(padding: bytes) -> None:
    limit = MAX_FIELDS["SegmentRequest"]
    with pytest.raises(TooLarge, match="more values"):
        parse(padding * (limit + 1), SEGMENT)


def test_packed_numbers_count_as_fields() -> None:
    options = segmentation_pb2.ReadOptions(channels=[1] * 5000)
    with pytest.raises(TooLarge):
        parse(options.SerializeToString(), segmentation_pb2.ReadOptions)
    check_fields(options.SerializeToString(), options.DESCRIPTOR, 5001)
    assert MAX_BODY_VALUES < 5000


def test_nesting_ends() -> None:
    value = b"\x08\x00"
    for _ in range(400):  # a list in a list in ...
        for tag in (b"\x0a", b"\x32"):
            size = len(value)
            value = tag + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + value
    with pytest.raises(BadInput, match="malformed"):
        check_fields(value, Value.DESCRIPTOR, 10**6)


def test_texts_are_as_long_as_they_need_to_be() -> None:
    """An id of megabytes would come back in the refusal, and in the log."""
    for message in (
        SEGMENT(image_id="a" * 5000),
        jobs_pb2.SubmitJobRequest(batch=jobs_pb2.Batch(image_ids=["a", "b" * 5000])),
    ):
        with pytest.raises(TooLarge, match="5000 bytes") as refusal:
            parse(message.SerializeToString(), type(message))
        assert (refusal.value.field or "").startswith("image_id")
    mask = segmentation_pb2.Rle(height=1, width=1, counts="0" * 100_000)
    message = SEGMENT(image_id="a", prompts=[segmentation_pb2.Prompt(mask=mask)])
    assert parse(message.SerializeToString(), SEGMENT) == message
