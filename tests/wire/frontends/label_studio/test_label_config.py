"""Label configs: what of them counts, and what is refused."""

import pytest

from segserve.errors import BadInput
from segserve.wire.frontends.label_studio.label_config import MAX_DEPTH, Shape, parse_label_config

CONFIG = """
<View>
  <Image name="picture" value="$image" zoom="true"/>
  <KeyPointLabels name="point" toName="picture" smart="true" smartOnly="true">
    <Label value="Nucleus"/><Label value="Debris"/>
  </KeyPointLabels>
  <PolygonLabels name="polygon" toName="picture">
    <Label value="Nucleus" predicted_values="cell, nuclei"/>
  </PolygonLabels>
  <BrushLabels name="brush" toName="picture"><Label value="Nucleus" alias="N"/><Label value="Debris"/></BrushLabels>
</View>
"""


def test_the_tag_that_holds_most_of_a_mask_comes_first() -> None:
    config = parse_label_config(CONFIG)
    assert config.values == {"picture": "image"}
    controls = config.controls_of("picture")
    assert [control.shape for control in controls] == [Shape.BRUSH, Shape.POLYGON]  # no smart tool
    brush, polygon = controls
    assert brush.find_label("nucleus") == "N"
    assert brush.find_label("none", "debris") == "Debris"
    assert brush.find_label("none") == "N"
    assert polygon.find_label("NUCLEI") == "Nucleus"
    assert config.controls_of("other") == []


def test_smart_tools_take_objects_where_nothing_else_does() -> None:
    config = parse_label_config(
        '<View><Image name="i" value="$x"/><KeyPoint name="k" toName="i" smartOnly="true"/></View>'
    )
    assert [control.shape for control in config.controls_of("i")] == [Shape.KEYPOINT]


def test_a_tag_labels_may_be_shared() -> None:
    config = parse_label_config(
        '<View><Image name="i" value="$x"/><Labels name="l" toName="i"><Label value="A"/></Labels>'
        '<Brush name="b" toName="i"/><Polygon name="p" toName="j"/></View>'
    )
    brush, polygon = config.controls
    assert (brush.labels_tag, brush.find_label()) == ("l", "A")
    assert (polygon.labels_tag, polygon.find_label()) == (None, None)


def test_videos_have_controls_of_their_own() -> None:
    config = parse_label_config(
        '<View><Video name="v" value="$clip"/><VideoRectangle name="box" toName="v"/></View>'
    )
    assert (config.values, config.video_controls) == ({"v": "clip"}, {"v": "box"})


BOMB = '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]><View>&c;</View>'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<View>",
        "no XML",
        BOMB,
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><View/>',
        "<a>" * (MAX_DEPTH + 1) + "</a>" * (MAX_DEPTH + 1),
        "<View>" + "<a/>" * 20_001 + "</View>",
        f"<View>{' ' * (1 << 20)}</View>",
        "<View>\ud800</View>",
    ],
    ids=["empty", "open", "text", "bomb", "external", "deep", "many", "large", "surrogate"],
)
def test_what_is_no_label_config_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="label config"):
        parse_label_config(text)


def test_many_tags_that_share_labels_take_little_time_and_memory() -> None:
    """Each tag reads no labels of its own: it was the square of both numbers."""
    labels = "".join(f'<Label value="k{i}"/>' for i in range(2000))
    brushes = "".join(f'<Brush name="b{i}" toName="i"/>' for i in range(2000))
    config = parse_label_config(
        f'<View><Image name="i"/><Labels name="l" toName="i">{labels}</Labels>{brushes}</View>'
    )
    assert len(config.controls) == 2000
    assert len({id(control.labels) for control in config.controls}) == 1
    assert config.controls[0].labels["k7"] == "k7"


def test_labels_inside_another_tag_are_that_tags_alone() -> None:
    inner = '<BrushLabels name="b" toName="i"><Label value="inner"/></BrushLabels>'
    config = parse_label_config(
        f'<View><Image name="i"/><PolygonLabels name="p" toName="i"><View><Label value="outer"/></View>{inner}'
        "</PolygonLabels></View>"
    )
    assert {control.name: list(control.labels) for control in config.controls} == {
        "p": ["outer"],
        "b": ["inner"],
    }
