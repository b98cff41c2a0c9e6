"""The stored requests of jobs on one file: checked, complete, and with all prompts that were added since."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from segserve.automatic.merge_slices import VolumeParams
from segserve.errors import BadInput
from segserve.files.file_view import FileView
from segserve.models.bundle import Bundle
from segserve.models.manifest import AisEntry
from segserve.projection.mask_to_prompt import Projection
from segserve.tracking.linking_params import LinkingParams
from segserve.types import Direction, Select


class EngineName(StrEnum):
    """How an object is propagated from slice to slice."""

    MEMORY = "memory"  # SAM 2 remembers the object
    PROJECTION = "projection"  # the mask of one slice prompts the next


def check_same_model(bundle: Bundle, request: "PropagationRequest | AutomaticJobRequest") -> None:
    """Check that the model is the one that the job began with: no other can go on from there. Raises BadInput."""
    if bundle.digest != request.digest:
        raise BadInput(
            f"The model {bundle.name!r} is another than when the job was submitted.",
            field="model",
            remedy="Submit the job again.",
        )


class StoredJson(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PromptOnSlice(StoredJson):
    """A prompt for one object.

    slice: its index, from 0.
    prompt: as its route takes it.
    revision: of the job, when the prompt was added; 0: with the submission.
    """

    slice: int
    prompt: dict[str, Any]
    revision: int = 0


class RequestedObject(StoredJson):
    """name: what the annotator calls the object; None: nothing."""

    object_id: int
    name: str | None = None
    prompts: list[PromptOnSlice]


class PropagationRequest(StoredJson):
    """Objects to propagate through a video or a volume.

    digest: of the model's bundle.
    image_size: edge of the square that the memory engine resizes frames to; None: the model's own.
    raw, and all fields from projection on: see `projection.propagate.PropagationOptions`. A request that was stored
        before they were added goes on as it began.
    """

    model: str
    digest: str
    view: FileView
    engine: EngineName
    direction: Direction
    objects: list[RequestedObject]
    select: Select
    raw: bool = True
    image_size: int | None = None
    projection: Projection = Projection.MASK
    iou_threshold: float = 0.5
    min_score: float = 0.7
    box_extension: float = 0.0
    min_contrast: float = 0.0
    min_likeness: float = -1.0
    max_move: float = 0.0
    min_step_likeness: float = -1.0
    max_overlap: float = 1.0
    max_gap: int = 0

    def annotated_slices(self) -> dict[int, dict[int, int]]:
        """Return for each object id its slices with prompts, each with the revision of its latest prompt."""
        return {
            item.object_id: {
                prompt.slice: prompt.revision
                for prompt in sorted(item.prompts, key=lambda prompt: prompt.revision)
            }
            for item in self.objects
        }

    def get_prompts(self, object_id: int, index: int) -> list[PromptOnSlice]:
        """Return the prompts of an object on a slice, in the order in which they were added."""
        items = (item for item in self.objects if item.object_id == object_id)
        return sorted(
            (prompt for item in items for prompt in item.prompts if prompt.slice == index),
            key=lambda prompt: prompt.revision,
        )


class AutomaticJobRequest(StoredJson):
    """All objects of a file, without prompts.

    digest: of the model's bundle.
    params: of automatic segmentation (AIS) of one slice, as POST /v1/automatic takes them.
    scale: pixels of the model's input for each pixel of a slice; None: a slice fills the input.
    """

    model: str
    digest: str
    view: FileView
    engine: Literal["automatic"] = "automatic"
    params: AisEntry
    scale: float | None = None


class VolumeMergeRequest(AutomaticJobRequest):
    """All objects of a volume, merged across its slices."""

    joining: VolumeParams = VolumeParams()


class TrackingRequest(AutomaticJobRequest):
    """All objects of every frame, linked to tracks."""

    joining: LinkingParams = LinkingParams()
