"""The state of a lease: what its client has sent, and the object that came of it."""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

from segserve.app import Service
from segserve.errors import BadInput, FileNotFound, TooLarge
from segserve.identity.identity import current_tenant
from segserve.types import MB, FileRecord
from segserve.wire.frontends.nninteractive.interactions import Interactions, choose_axis
from segserve.wire.frontends.nninteractive.volume_mask import Shape, VolumeMask

# States that a client can go back to.
MAX_UNDO = 16
# Run lengths of one state, and of all that are kept.
MAX_STATE_BYTES = 32 * MB
MAX_KEPT_BYTES = 64 * MB


@dataclass(frozen=True)
class ObjectState:
    """The object so far. is_pending: something was drawn since its mask was computed."""

    interactions: Interactions
    mask: VolumeMask
    is_pending: bool = False

    @property
    def text_bytes(self) -> int:
        """Memory of the run lengths."""
        return self.mask.text_bytes + self.interactions.text_bytes


@dataclass(frozen=True)
class Volume:
    """record: a file of this lease alone. spacing: of the voxels along the axes of the array; None: not told."""

    record: FileRecord
    spacing: list[float] | None

    @property
    def shape(self) -> Shape:
        return self.record.count, self.record.size.height, self.record.size.width

    def begin(self) -> ObjectState:
        """Return the state of an object of which nothing is known."""
        axis = choose_axis(self.shape, self.spacing)
        return ObjectState(Interactions(axis), VolumeMask(self.shape, axis))


@dataclass
class Lease:
    """model: its name. lock: held by the request at work; those of one client take turns. past: earlier states."""

    model: str
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    volume: Volume | None = None
    state: ObjectState | None = None
    past: deque[ObjectState] = field(default_factory=lambda: deque(maxlen=MAX_UNDO))

    def get_volume(self) -> Volume:
        """Raises BadInput before there is an image."""
        if self.volume is None:
            raise BadInput("There is no image.", field="image", remedy="Send one first: set_image.")
        return self.volume

    def get_state(self) -> ObjectState:
        """Raises BadInput before there is an image."""
        self.get_volume()
        assert self.state is not None
        return self.state

    def set_volume(self, volume: Volume) -> None:
        self.volume = volume
        self.reset()

    def reset(self) -> None:
        """Begin a new object. Raises BadInput before there is an image."""
        self.state = self.get_volume().begin()
        self.past.clear()

    def advance(self, state: ObjectState) -> None:
        """Go on to another state, which `go_back` undoes. Earlier ones than memory has room for are forgotten.

        Raises TooLarge for masks of very many runs.
        """
        if state.text_bytes > MAX_STATE_BYTES:
            raise TooLarge(
                "The masks are too ragged to be kept.", field="interaction", remedy="Reset the interactions."
            )
        self.past.append(self.get_state())
        self.state = state
        while state.text_bytes + sum(earlier.text_bytes for earlier in self.past) > MAX_KEPT_BYTES:
            self.past.popleft()

    def go_back(self) -> bool:
        """Undo the latest `advance`. Returns False where there is none."""
        if not self.past:
            return False
        self.state = self.past.pop()
        return True


async def give_back(service: Service, lease: Lease) -> None:
    """Delete the image of a lease that has ended."""
    if lease.volume is not None:
        await delete_volume(service, lease.volume)


async def delete_volume(service: Service, volume: Volume) -> None:
    with suppress(FileNotFound):
        await service.files.delete(current_tenant(), volume.record.file_id)
