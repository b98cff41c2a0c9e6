"""What the service answers about images, files and models, as typed values. Every function is pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve_client.rle import Bool, Rle

Json = Mapping[str, Any]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class StoredImage:
    """An uploaded image. page: which page of the file it is, from 0. hints: what to know about it."""

    image_id: str
    width: int
    height: int
    page: int
    pages: int
    hints: tuple[str, ...]


@dataclass(frozen=True)
class MaskAnswer:
    """A mask of a prompt.

    score: predicted IoU, 0 to 1. box: x0, y0, x1, y1. area: pixels.
    mask_id: what the service remembers it by for a while; None where it does not.
    """

    rle: Rle
    score: float
    box: Box
    area: int
    removed_parts: int
    filled_holes: int
    mask_id: str | None

    @property
    def array(self) -> Bool:
        """The mask, bool [height, width]."""
        return self.rle.array


@dataclass(frozen=True)
class SegmentAnswer:
    """The masks of all prompts, in order. hints: what is doubtful about them."""

    image_id: str
    model: str
    masks: tuple[tuple[MaskAnswer, ...], ...]
    hints: tuple[str, ...]


@dataclass(frozen=True)
class Object:
    """An object of an image.

    score: how good the model thinks it is; None if it does not say. category: the name of its class, if it has one.
    likeness, example: of `similar` only, see `SimilarObject`.
    """

    rle: Rle
    box: Box
    area: int
    score: float | None = None
    category: str | None = None
    likeness: float | None = None
    example: bool = False

    @property
    def array(self) -> Bool:
        """The mask, bool [height, width]."""
        return self.rle.array


@dataclass(frozen=True)
class ImageObjects(Sequence[Object]):
    """The objects of an image: a sequence of them.

    scale: pixels of the model's input for each pixel of the image, where it was chosen. hints: what is doubtful.
    """

    image_id: str
    model: str
    width: int
    height: int
    objects: tuple[Object, ...]
    scale: float | None = None
    hints: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, index: Any) -> Any:
        return self.objects[index]

    def __iter__(self) -> Iterator[Object]:
        return iter(self.objects)

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """The label map, int32 [height, width]: n is the n-th object, 0 the background. Smaller objects are on top."""
        numbered = [(number, item.rle, item.area) for number, item in enumerate(self.objects, 1)]
        return draw_labels(numbered, (self.height, self.width))


@dataclass(frozen=True)
class SimilarObject(Object):
    """An object that is like examples.

    likeness: 1 is as like the examples as they are themselves, 0 as the image on average. example: it is one of them.
    """

    likeness: float = 0.0


@dataclass(frozen=True)
class SimilarObjects(ImageObjects):
    """The objects of an image that are like examples: a sequence of them."""

    objects: tuple[SimilarObject, ...]

    def __iter__(self) -> Iterator[SimilarObject]:
        return iter(self.objects)


@dataclass(frozen=True)
class ClassArea:
    """A class of a semantic model. value: in class maps. area: pixels. fraction: part of the image."""

    value: int
    name: str
    area: int
    fraction: float


@dataclass(frozen=True)
class ClassMap:
    """A class for every pixel of an image. classes: all of the model, with their areas. objects: one a class."""

    image_id: str
    model: str
    width: int
    height: int
    classes: tuple[ClassArea, ...]
    objects: tuple[Object, ...]

    @cached_property
    def array(self) -> NDArray[np.int32]:
        """The class map, int32 [height, width]: 0 is background, n the class with the value n."""
        values = {item.name: item.value for item in self.classes}
        numbered = [(values[item.category or ""], item.rle, item.area) for item in self.objects]
        return draw_labels(numbered, (self.height, self.width))


@dataclass(frozen=True)
class FileContent:
    """One of the things that a file holds, such as a DICOM series. taken: it is what was taken of the file."""

    series: str
    description: str
    times: int
    frames: int
    width: int
    height: int
    taken: bool
    time: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class StoredFile:
    """An uploaded video, stack, volume or zip.

    frames: frames, slices or pictures. spacing: in mm, from slice to slice, row to row, column to column.
    Volumes have one, and TIFF stacks that ImageJ or OME has calibrated.
    contents: what the file holds. left_out: how many files of an archive belong to nothing. left_out_files: the first
    of them, as (name, reason).
    """

    file_id: str
    kind: str
    format: str
    frames: int
    width: int
    height: int
    fps: float | None = None
    spacing: tuple[float, float, float] | None = None
    contents: tuple[FileContent, ...] = ()
    left_out: int = 0
    left_out_files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Label:
    """An object of a label volume on one slice. object_id: the same on all slices. name: of a segment of DICOM SEG."""

    object_id: int
    name: str | None
    rle: Rle
    box: Box
    area: int

    @property
    def array(self) -> Bool:
        """The mask, bool [height, width] of the slice."""
        return self.rle.array


@dataclass(frozen=True)
class LabelSlice:
    """A slice of a label volume, and the objects on it. index: its number along the axis, from 0."""

    index: int
    size: tuple[int, int]
    objects: tuple[Label, ...]

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """The label map, int32 [height, width]: object_ids, 0 is background. Smaller objects are on top."""
        return draw_labels([(item.object_id, item.rle, item.area) for item in self.objects], self.size)


@dataclass(frozen=True)
class LabelVolume:
    """Labels of another program on the voxels of a stored volume. size: height and width of a slice.

    axis: the array axis along which slices are numbered. slices: those that have objects, in their order.
    """

    axis: int
    size: tuple[int, int]
    slices: tuple[LabelSlice, ...]


@dataclass(frozen=True)
class Model:
    """A model of the service.

    automatic: the methods of `Image.automatic` that it can do. suits: what it is for. prompts: those that it is trained
    for, points and boxes; empty for models that take no prompts. engines: of `Client.video`, the best first.
    """

    name: str
    kind: str
    architecture: str
    automatic: tuple[str, ...]
    classes: tuple[str, ...] | None
    suits: tuple[str, ...]
    prompts: tuple[str, ...]
    engines: tuple[str, ...]
    description: str
    licence: str
    digest: str
    loaded: bool
    default: bool
    raw: Json = field(repr=False, compare=False)


def draw_labels(items: Sequence[tuple[int, Rle, int]], size: tuple[int, int]) -> NDArray[np.int32]:
    """Return the label map [height, width] of (value, mask, area in pixels). Smaller masks are on top."""
    labels = np.zeros(size, np.int32)
    for value, mask, _ in sorted(items, key=lambda item: -item[2]):
        labels[mask.array] = value
    return labels


def parse_rle(mask: Json) -> Rle:
    height, width = mask["size"]
    return Rle((height, width), mask["counts"])


def parse_box(box: Sequence[int]) -> Box:
    x0, y0, x1, y1 = box
    return x0, y0, x1, y1


def parse_image(content: Json) -> StoredImage:
    return StoredImage(
        content["image_id"],
        content["width"],
        content["height"],
        content.get("page", 0),
        content.get("pages", 1),
        tuple(content.get("hints", ())),
    )


def parse_mask(content: Json) -> MaskAnswer:
    return MaskAnswer(
        parse_rle(content["mask"]),
        content["score"],
        parse_box(content["box"]),
        content["area"],
        content["removed_parts"],
        content["filled_holes"],
        content.get("mask_id"),
    )


def parse_segment(content: Json) -> SegmentAnswer:
    masks = tuple(tuple(parse_mask(mask) for mask in result["masks"]) for result in content["results"])
    return SegmentAnswer(content["image_id"], content["model"], masks, tuple(content.get("hints", ())))


def parse_object(content: Json) -> Object:
    return Object(
        parse_rle(content["mask"]),
        parse_box(content["box"]),
        content["area"],
        content.get("score"),
        content.get("class"),
        content.get("likeness"),
        content.get("example", False),
    )


def parse_objects(content: Json) -> ImageObjects:
    scale = content.get("scale")
    return ImageObjects(
        content["image_id"],
        content["model"],
        content["width"],
        content["height"],
        tuple(parse_object(item) for item in content["objects"]),
        None if scale is None else scale["scale"],
        tuple(content.get("hints", ())),
    )


def parse_similar(content: Json) -> SimilarObjects:
    found = parse_objects(content)
    objects = tuple(
        SimilarObject(
            each.rle, each.box, each.area, each.score, each.category, item["likeness"], item["example"]
        )
        for each, item in zip(found, content["objects"], strict=True)
    )
    return SimilarObjects(
        found.image_id, found.model, found.width, found.height, objects, found.scale, found.hints
    )


def parse_class_map(content: Json) -> ClassMap:
    classes = (
        ClassArea(item["value"], item["class"], item["area"], item["fraction"]) for item in content["classes"]
    )
    return ClassMap(
        content["image_id"],
        content["model"],
        content["width"],
        content["height"],
        tuple(classes),
        tuple(parse_object(item) for item in content["objects"]),
    )


def parse_file(content: Json) -> StoredFile:
    spacing = content.get("spacing")
    left_out = content.get("left_out") or {"count": 0, "files": []}
    return StoredFile(
        content["file_id"],
        content["kind"],
        content["format"],
        content["frames"],
        content["width"],
        content["height"],
        content.get("fps"),
        None if spacing is None else (spacing[0], spacing[1], spacing[2]),
        tuple(parse_file_content(item) for item in content.get("contents", ())),
        left_out["count"],
        tuple((item["name"], item["reason"]) for item in left_out["files"]),
    )


def parse_file_content(content: Json) -> FileContent:
    return FileContent(
        content["series"],
        content["description"],
        content["times"],
        content["frames"],
        content["width"],
        content["height"],
        content["taken"],
        content["time"],
        tuple(content["notes"]),
    )


def parse_labels(content: Json) -> LabelVolume:
    size = content["height"], content["width"]
    return LabelVolume(
        content["axis"],
        size,
        tuple(
            LabelSlice(one["slice"], size, tuple(parse_label(item) for item in one["objects"]))
            for one in content["slices"]
        ),
    )


def parse_label(content: Json) -> Label:
    return Label(
        content["object_id"],
        content["name"],
        parse_rle(content["mask"]),
        parse_box(content["box"]),
        content["area"],
    )


def parse_model(content: Json) -> Model:
    classes = content.get("classes")
    return Model(
        content["name"],
        content["kind"],
        content.get("architecture", ""),
        tuple(content.get("automatic", ())),
        None if classes is None else tuple(classes),
        tuple(content.get("suits", ())),
        tuple(content.get("prompts", ())),
        tuple(content.get("engines", ())),
        content.get("description", ""),
        content.get("licence", ""),
        content.get("digest", ""),
        content.get("loaded", False),
        content.get("default", False),
        content,
    )
