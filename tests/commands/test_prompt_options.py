"""Points and boxes on frames, as options: they become the objects of a job's params."""

import pytest

from segserve.commands.prompt_options import parse_objects
from segserve.errors import BadInput


def test_points_and_boxes_of_several_objects_on_several_frames() -> None:
    objects = parse_objects(
        ["120,80@5", "2:1.5,-2@0", "2:30,40@0", "121,81@5", "7,8@9"],
        ["1:9,9@5"],
        ["2:1,2,3,4@7", "0,0,9,9@9"],
        "frame",
    )
    assert objects == [
        {"object_id": 1, "prompts": [
            {"frame": 5, "points": [[120, 80], [121, 81], [9, 9]], "labels": [1, 1, 0]},
            {"frame": 9, "points": [[7, 8]], "labels": [1], "box": [0, 0, 9, 9]},
        ]},
        {"object_id": 2, "prompts": [
            {"frame": 0, "points": [[1.5, -2], [30, 40]], "labels": [1, 1]},
            {"frame": 7, "box": [1, 2, 3, 4]},
        ]},
    ]  # fmt: skip
    assert parse_objects(["3:1,2@4"], [], [], "slice")[0]["prompts"][0]["slice"] == 4


@pytest.mark.parametrize(
    ("points", "negatives", "boxes", "option"),
    [
        (["120,80"], [], [], "--point"),
        (["120,80@"], [], [], "--point"),
        (["0:120,80@1"], [], [], "--point"),
        (["120@1"], [], [], "--point"),
        ([], ["a,b@1"], [], "--negative"),
        ([], [], ["1,2,3@1"], "--box"),
        ([], [], ["9,9,1,1@1"], "--box"),
        ([], [], ["1,1,2,2@1", "1,1,3,3@1"], "--box"),
    ],
)
def test_an_unreadable_prompt_names_its_option(
    points: list[str], negatives: list[str], boxes: list[str], option: str
) -> None:
    with pytest.raises(BadInput) as raised:
        parse_objects(points, negatives, boxes, "frame")
    assert raised.value.field == option
    assert raised.value.remedy
