"""What jobs on one file were asked, as it is kept: checked, whole, and with all that was asked for since."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from segserve.automatic.merge_slices import VolumeParams
from segserve.errors import BadInput
from segserve.files.file_view import FileView
from segserve.models.bundle import Bundle
from segserve.models.manifest import AisEntry
from segserve.projection.mask_to_prompt import Projection
from segserve.tracking.link_tracks import LinkingParams
from segserve.types import Direction, Select


class EngineName(StrEnum):
    """How an object is followed from slice to slice."""

    MEMORY = "memory"  # SAM 2 remembers the object
    PROJECTION = "projection"  # the mask of one slice prompts the next


def check_same_model(bundle: Bundle, request: "PropagationRequest | AutomaticJobRequest") -> None:
    """What one model began another cannot go on with. Raises BadInput."""
    if bundle.digest != request.digest:
        raise BadInput(
            f"The model {bundle.name!r} is another than when the job was submitted.",
            field="model",
            remedy="Submit the job again.",
        )


class StoredJson(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PromptOnSlice(StoredJson):
    """prompt: as its route takes it. revision: of the job, when it came."""

    slice: int
    prompt: dict[str, Any]
    revision: int = 0


class RequestedObject(StoredJson):
    object_id: int
    prompts: list[PromptOnSlice]


class PropagationRequest(StoredJson):
    """Objects to follow through a video or a volume. digest: of the model's bundle. image_size: that the engine memory
    resizes frames to; None: the model's own. The last four: see `projection.propagate.FollowOptions`."""

    model: str
    digest: str
    view: FileView
    engine: EngineName
    direction: Direction
    objects: list[RequestedObject]
    select: Select
    image_size: int | None = None
    projection: Projection = Projection.MASK
    iou_threshold: float = 0.5
    min_score: float = 0.7
    box_extension: float = 0.0

    def annotated_slices(self) -> dict[int, dict[int, int]]:
        """Of each object its slices with prompts, and the revision of the latest of them."""
        return {
            each.object_id: {
                prompt.slice: prompt.revision
                for prompt in sorted(each.prompts, key=lambda prompt: prompt.revision)
            }
            for each in self.objects
        }

    def get_prompts(self, object_id: int, at: int) -> list[PromptOnSlice]:
        """Of that object on that slice, as they came."""
        found = (each for each in self.objects if each.object_id == object_id)
        return sorted(
            (prompt for each in found for prompt in each.prompts if prompt.slice == at),
            key=lambda prompt: prompt.revision,
        )


class AutomaticJobRequest(StoredJson):
    """All objects of a file. digest: of the model's bundle. params: of the method on a single slice, as POST
    /v1/automatic takes them."""

    model: str
    digest: str
    view: FileView
    engine: Literal["automatic"] = "automatic"
    params: AisEntry


class VolumeMergeRequest(AutomaticJobRequest):
    """Objects of a volume, joined across its slices."""

    joining: VolumeParams = VolumeParams()


class TrackingRequest(AutomaticJobRequest):
    """Objects of every frame, each with its track."""

    joining: LinkingParams = LinkingParams()
