"""The order in which slices are segmented."""

from segserve.projection.slice_order import ProjectionVisit, SliceStep, plan_projection
from segserve.types import Direction


def list_slices(visits: list[ProjectionVisit]) -> list[int]:
    return [visit.slice for visit in visits]


def test_one_annotated_slice_goes_up_and_then_down() -> None:
    visits = plan_projection({1: {2: 0}}, 5, Direction.BOTH)
    assert list_slices(visits) == [2, 3, 4, 1, 0]
    assert visits[0] == ProjectionVisit(2, ((1, 0),), ())
    assert visits[1].steps == ((1, SliceStep(3, (2,), (2, 1), stops=True)),)
    assert visits[3].steps == ((1, SliceStep(1, (2,), (2, -1), stops=True)),)
    assert list_slices(plan_projection({1: {2: 0}}, 5, Direction.FORWARD)) == [2, 3, 4]
    assert list_slices(plan_projection({1: {2: 0}}, 5, Direction.BACKWARD)) == [2, 1, 0]


def test_between_two_annotated_slices_both_sides_meet_and_no_chain_stops() -> None:
    visits = plan_projection({1: {1: 0, 5: 0}}, 7, Direction.BOTH)
    assert list_slices(visits) == [1, 2, 5, 6, 4, 0, 3]
    steps = {step.slice: step for visit in visits for _, step in visit.steps}
    assert steps[3].sources == (2, 4), "the middle slice is as far from both"
    assert [at for at, step in sorted(steps.items()) if step.stops] == [0, 6]
    even = plan_projection({1: {1: 0, 4: 0}}, 5, Direction.FORWARD)
    assert {step.slice: step.sources for visit in even for _, step in visit.steps} == {2: (1,), 3: (4,)}
    assert list_slices(plan_projection({1: {1: 0, 2: 0}}, 3, Direction.FORWARD)) == [1, 2]


def test_objects_go_together() -> None:
    visits = plan_projection({1: {0: 0}, 7: {2: 0}}, 4, Direction.BOTH)
    assert list_slices(visits) == [0, 1, 2, 3, 1, 0]
    assert [[name for name, _ in visit.steps] for visit in visits] == [[], [1], [1], [1, 7], [7], [7]]
    assert [[name for name, _ in visit.annotated] for visit in visits] == [[1], [], [7], [], [], []]


def test_a_later_prompt_changes_no_visit_before_its_slice() -> None:
    before, after = (
        plan_projection({1: {0: 0}, **more}, 40, Direction.FORWARD) for more in ({}, {2: {30: 1}})
    )
    assert [x == y for x, y in zip(before, after, strict=True)].index(False) == 30
