"""Objects of an engine that never gives up: their losses are told once, and again after they were found."""

from segserve.jobs.kinds.presence_log import PresenceLog
from segserve.types import LossReason, ObjectEnd

ABSENT = LossReason.ABSENT


def tell(log: PresenceLog, seen: str, start: int = 0, by: int = 1) -> tuple[list[int], list[ObjectEnd]]:
    """Return the frames where object 1 is missing, and the ends. seen: + where it is, - where it is not."""
    missing, ends = list[int](), list[ObjectEnd]()
    for number, there in enumerate(seen):
        frame = start + by * number
        reasons, new = log.note(frame, {1: None if there == "+" else ABSENT}, is_last=number == len(seen) - 1)
        missing += [frame] * len(reasons)
        ends += new
    return missing, ends


def test_an_object_is_lost_when_it_was_missing_for_long() -> None:
    assert tell(PresenceLog(3), "++--+----+") == ([2, 3, 5, 6, 7, 8], [ObjectEnd(1, 5, 4, ABSENT)])


def test_a_loss_is_told_once_and_again_after_the_object_was_found() -> None:
    _, ends = tell(PresenceLog(2), "+-----+----+")
    assert [(end.frame, end.last_frame) for end in ends] == [(1, 0), (7, 6)]


def test_the_last_frame_tells_every_loss() -> None:
    assert tell(PresenceLog(50), "+++-")[1] == [ObjectEnd(1, 3, 2, ABSENT)]


def test_an_object_is_not_missing_before_it_was_found() -> None:
    assert tell(PresenceLog(0), "---++") == ([], [])


def test_the_way_back_begins_where_an_object_was_first_found() -> None:
    log = PresenceLog(0)
    tell(log, "+++", start=5)
    log.turn()
    assert tell(log, "+--", start=4, by=-1)[1] == [ObjectEnd(1, 3, 4, ABSENT)]


def test_a_loaded_log_goes_on() -> None:
    log, again = PresenceLog(3), PresenceLog(3)
    tell(log, "++-")
    again.load(log.dump())
    assert again.dump() == log.dump()
    assert tell(again, "--", start=3) == tell(log, "--", start=3)
