"""The ends of objects in the state of a job: few, and as text."""

from segserve.jobs.engine.object_ends import MAX_LATEST_ENDS, ObjectEnds, end_to_json
from segserve.types import LossReason, ObjectEnd


def test_a_job_counts_all_ends_and_tells_the_latest() -> None:
    many = [ObjectEnd(number, 7, 6, LossReason.LIKENESS) for number in range(1, MAX_LATEST_ENDS + 9)]
    ends = ObjectEnds().append(many[:5]).append(many[5:])
    assert ends.count == MAX_LATEST_ENDS + 8
    assert ends.latest == tuple(many[8:])


def test_ends_are_read_as_they_were_written() -> None:
    ends = ObjectEnds(9, (ObjectEnd(1, 12, 11, LossReason.IOU), ObjectEnd(65_535, 0, None, LossReason.EMPTY)))
    assert ObjectEnds.decode(ends.encode()) == ends
    assert " " not in ends.encode()
    assert ObjectEnds.decode(ObjectEnds().encode()) == ObjectEnds.decode("") == ObjectEnds()


def test_an_end_says_frame_or_slice() -> None:
    end = ObjectEnd(3, 41, 40, LossReason.CONTRAST)
    assert end_to_json(end, "slice") == {"object_id": 3, "slice": 41, "last_slice": 40, "reason": "contrast"}
    assert end_to_json(end, "frame") == {"object_id": 3, "frame": 41, "last_frame": 40, "reason": "contrast"}
