"""Label configs of Label Studio: which tags of a project take masks, of which picture, with which labels.

They are XML from outside. It is read by expat, without document types, so there are no entities; size and depth are
bounded.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from xml.parsers.expat import ExpatError, ParserCreate

from segserve.errors import BadInput, TooLarge

MAX_CHARACTERS = 1 << 18
MAX_DEPTH = 64
MAX_TAGS = 5000


class Shape(StrEnum):
    """The forms of an object in Label Studio. The best come first: they hold the whole mask."""

    BRUSH = "brush"
    BITMASK = "bitmask"
    POLYGON = "polygon"
    RECTANGLE = "rectangle"
    KEYPOINT = "keypoint"


# Tags with labels of their own, and tags that share those of a tag Labels.
LABELLED_TAGS = {f"{shape}labels": shape for shape in Shape}
PLAIN_TAGS = {shape.value: shape for shape in Shape}
# Tags that take objects on videos.
VIDEO_TAGS = ("videorectangle", "videovectorlabels", "videovector")


@dataclass
class Tag:
    """An XML element. name: in lower case, as Label Studio compares them."""

    name: str
    attributes: dict[str, str]
    children: list["Tag"] = field(default_factory=list)

    def walk(self) -> Iterator["Tag"]:
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Control:
    """A tag that takes objects.

    name: "from_name" of results. to_name: of the picture. labels: by what a model may call them, in lower case.
    labels_tag: name of the tag Labels that has the labels, where the control has none of its own. is_smart_only: it is
    for prompts alone.
    """

    name: str
    to_name: str
    shape: Shape
    labels: dict[str, str]
    labels_tag: str | None = None
    is_smart_only: bool = False

    def find_label(self, *names: str | None) -> str | None:
        """Return the label that one of the names means, else the first one, None where the control has none."""
        for name in names:
            if name is not None and (label := self.labels.get(name.lower())) is not None:
                return label
        return next(iter(self.labels.values()), None)

    def has_label(self, name: str) -> bool:
        return name.lower() in self.labels


@dataclass(frozen=True)
class LabelConfig:
    """The part of a label config about pictures and videos.

    values: the key of a task's data, by the name of the picture's or video's tag. video_controls: name of the tag that
    takes objects on a video, by the name of the video's tag; empty where there is none.
    """

    controls: tuple[Control, ...]
    values: dict[str, str]
    video_controls: dict[str, str]

    def controls_of(self, to_name: str) -> list[Control]:
        """Return the controls of a picture, those that hold most of a mask first.

        Those for prompts alone are left out, unless there are no others.
        """
        order = list(Shape)
        found = [control for control in self.controls if control.to_name == to_name]
        found = [control for control in found if not control.is_smart_only] or found
        return sorted(found, key=lambda control: order.index(control.shape))


def parse_label_config(text: str) -> LabelConfig:
    """Read a label config. Raises BadInput, TooLarge."""
    tags = list(parse_xml(text).walk())
    values = {
        tag.attributes["name"]: tag.attributes.get("value", tag.attributes.get("valuelist", "")).lstrip("$")
        for tag in tags
        if tag.name in ("image", "video") and "name" in tag.attributes
    }
    video_controls = {
        tag.attributes["name"]: "" for tag in tags if tag.name == "video" and "name" in tag.attributes
    }
    for tag in tags:
        video = tag.attributes.get("toname", "")
        if tag.name in VIDEO_TAGS and not video_controls.get(video, "-"):
            video_controls[video] = tag.attributes.get("name", "")
    shared = {
        to_name: tag for tag in tags if tag.name == "labels" for to_name in [tag.attributes.get("toname", "")]
    }
    shared_labels = {to_name: read_labels(tag) for to_name, tag in shared.items()}
    controls = []
    for tag in tags:
        shape = LABELLED_TAGS.get(tag.name) or PLAIN_TAGS.get(tag.name)
        name, to_name = tag.attributes.get("name"), tag.attributes.get("toname", "")
        if shape is None or name is None:
            continue
        is_smart_only = tag.attributes.get("smartonly", "").lower() == "true"
        labels_tag = None if tag.name in LABELLED_TAGS else shared.get(to_name)
        labels = read_labels(tag) if labels_tag is None else shared_labels[to_name]
        labels_name = labels_tag.attributes.get("name") if labels_tag is not None else None
        controls.append(Control(name, to_name, shape, labels, labels_name, is_smart_only))
    return LabelConfig(tuple(controls), values, video_controls)


def read_labels(tag: Tag) -> dict[str, str]:
    """Return the labels of a tag by their names: in results they are the alias, or else the value.

    The attribute predicted_values lists names of a model's classes, as other backends of Label Studio read it.
    Labels inside another tag with labels are that tag's alone, so that each is read once however deep tags are nested.
    """
    labels: dict[str, str] = {}
    for child in walk_without(tag, LABELLED_TAGS):
        value = child.attributes.get("value")
        if child.name != "label" or not value:
            continue
        label = child.attributes.get("alias") or value
        predicted = child.attributes.get("predicted_values", "").split(",")
        for name in (value, label, *(part.strip() for part in predicted)):
            if name:
                labels.setdefault(name.lower(), label)
    return labels


def walk_without(tag: Tag, names: Collection[str]) -> Iterator[Tag]:
    """Yield the tags below a tag, but none of these names and nothing in those."""
    for child in tag.children:
        if child.name not in names:
            yield child
            yield from walk_without(child, names)


def parse_xml(text: str) -> Tag:
    """Return the root. Names of tags and attributes are in lower case. Raises BadInput, TooLarge."""
    if len(text) > MAX_CHARACTERS:
        raise too_large(f"It has over {MAX_CHARACTERS} characters.")
    root = Tag("", {})
    path, count = [root], 0
    parser = ParserCreate()

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if len(path) > MAX_DEPTH or count > MAX_TAGS:
            raise too_large("It has too many tags, or they are nested too deep.")
        tag = Tag(name.lower(), {key.lower(): value for key, value in attributes.items()})
        path[-1].children.append(tag)
        path.append(tag)

    def end(name: str) -> None:
        path.pop()

    def refuse(*_: object) -> None:
        raise invalid("A document type is not read.")

    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text.encode(), True)
    except (ExpatError, UnicodeEncodeError):
        raise invalid("It is not XML.") from None
    return root


def invalid(message: str) -> BadInput:
    return BadInput(
        f"The label config cannot be read. {message}",
        field="label_config",
        remedy="Save the labeling interface of the project again.",
    )


def too_large(message: str) -> TooLarge:
    return TooLarge(
        f"The label config is too large. {message}", field="label_config", remedy="Take fewer labels or tags."
    )
