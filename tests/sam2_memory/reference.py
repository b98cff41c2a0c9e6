"""SAM2VideoPredictor and ours, over the same frames and weights, step by step."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sam2.build_sam import build_sam2_video_predictor

from segserve.masks.crop import to_mask
from segserve.models.networks.sam2 import SAM2_CONFIGS, build_sam2_network
from segserve.sam2_memory.network_steps import Sam2VideoNetwork
from segserve.sam2_memory.session import Sam2Session
from segserve.types import Box, Prompt, Select, Size, UInt8
from tests.rounding import bilinear, bilinear_error, undecided

HEIGHT, WIDTH, COUNT = 120, 160, 9
SIZE = Size(HEIGHT, WIDTH)
TINY, SMALL = "2.1_tiny", 128  # the network, and its input's edge


@cache
def network(variant: str = TINY, seed: int = 0, image_size: int = SMALL) -> Any:
    """Random weights that look at where and when."""
    torch.manual_seed(seed)
    made = build_sam2_network(variant, image_size=image_size)
    with torch.no_grad():
        torch.nn.init.normal_(made.image_encoder.trunk.pos_embed, std=0.5)
        for name, parameter in made.named_parameters():
            if "maskmem_tpos" in name or "no_mem" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return made


@cache
def frames(count: int = COUNT) -> list[UInt8]:
    """Two discs that move over a gradient, and noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    made = []
    for index in range(count):
        image = np.stack([x, y, x + y], axis=2).astype(float) / 2
        for at, colour in (((30 + 4 * index, 50), (250, 40, 40)), ((90, 30 + 5 * index), (30, 220, 90))):
            image[(y - at[0]) ** 2 + (x - at[1]) ** 2 < 400] = colour
        made.append(np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8))
    return made


def points(*clicks: tuple[float, float, int]) -> Prompt:
    """Clicks as x, y, label."""
    given = np.array(clicks, np.float32).reshape(-1, 3)
    return Prompt(points=given[:, :2], labels=given[:, 2].astype(np.int64))


def box(x0: float, y0: float, x1: float, y1: float) -> Prompt:
    return Prompt(box=Box(x0, y0, x1, y1))


def disc(x: float, y: float, radius: float) -> Prompt:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return Prompt(mask=(rows - y) ** 2 + (columns - x) ** 2 < radius**2)


@contextmanager
def quiet() -> Iterator[None]:
    """The library warns that it fills no holes without its CUDA extension."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def predictor(variant: str, seed: int, image_size: int) -> Any:
    """The library's, as its `build_sam2_video_predictor` makes it, but that corrected frames condition."""
    options = [f"++model.image_size={image_size}", "++model.add_all_frames_to_correct_as_cond=true"]
    made = build_sam2_video_predictor(SAM2_CONFIGS[variant], device="cpu", hydra_overrides_extra=options)
    ours = network(variant, seed, image_size)
    made.load_state_dict(ours.state_dict())
    share_encodings(made, ours)
    # Before an object's first prompt there are no pointers to make its bfloat16 memories float32 by joining them, and
    # the library's float32 attention refuses them.
    made.memory_attention.register_forward_pre_hook(
        lambda module, args, named: (args, {**named, "memory": named["memory"].float()}), with_kwargs=True
    )
    return made


def share_encodings(*networks: Any) -> None:
    """Of equal networks: what one has encoded, to the last bit the same image, the others need not, to save time."""
    known: dict[bytes, dict[str, Any]] = {}
    encode = networks[0].image_encoder.forward

    def encoded(image: Any) -> dict[str, Any]:
        key = image.numpy().tobytes()
        if key not in known:
            known[key] = encode(image)
        return {name: part[:] if isinstance(part, list) else part for name, part in known[key].items()}

    for sharing in networks:
        sharing.image_encoder.forward = encoded


class Reference:
    """The library's predictor over the frames as pictures in a folder."""

    def __init__(self, folder: Path, variant: str, seed: int, image_size: int) -> None:
        self.predictor = predictor(variant, seed, image_size)
        folder.mkdir(exist_ok=True)
        for index, frame in enumerate(frames()):
            picture = io.BytesIO()
            Image.fromarray(frame).save(
                picture, "PNG"
            )  # under a name that it looks for, without a JPEG's losses
            (folder / f"{index:05d}.jpg").write_bytes(picture.getvalue())
        self.state = self.predictor.init_state(str(folder))

    def add(self, frame: int, object_id: int, prompt: Prompt, select: Select = Select.BEST) -> Any:
        """The mask at the video's size."""
        with quiet(), self.choosing(select):
            if prompt.mask is not None:
                given = (self.state, frame, object_id, prompt.mask)
                found = self.predictor.add_new_mask(*given)
            if prompt.box is not None or len(prompt.points):
                corners = (
                    None if prompt.box is None else np.array(list(vars(prompt.box).values()), np.float32)
                )
                clicked = len(prompt.points) > 0
                found = self.predictor.add_new_points_or_box(
                    self.state,
                    frame,
                    object_id,
                    points=prompt.points if clicked else None,
                    labels=prompt.labels.astype(np.int32) if clicked else None,
                    box=corners,
                    clear_old_points=prompt.box is not None,
                )
        _, ids, logits = found
        return (logits[ids.index(object_id), 0] > 0).numpy()

    @contextmanager
    def choosing(self, select: Select) -> Iterator[None]:
        """The first candidate is what is left if the others are taken away."""
        if select is Select.BEST:
            yield
            return
        hook = self.predictor.sam_mask_decoder.register_forward_hook(
            lambda module, args, found: (*(part[:, :1] for part in found[:3]), found[3])
        )
        most, self.predictor.multimask_max_pt_num = self.predictor.multimask_max_pt_num, 99
        yield
        hook.remove()
        self.predictor.multimask_max_pt_num = most

    def track(self, first: int, last: int) -> Iterator[tuple[int, dict[int, Any], dict[int, Any]]]:
        """Frame, masks at the video's size, low-res logits; backwards where `last` is before `first`."""
        with quiet():
            for frame, ids, logits in self.predictor.propagate_in_video(
                self.state,
                start_frame_idx=first,
                max_frame_num_to_track=abs(last - first),
                reverse=last < first,
            ):
                low = {}
                for index, object_id in enumerate(ids):
                    kept = self.state["output_dict_per_obj"][index]
                    out = kept["cond_frame_outputs"].get(frame) or kept["non_cond_frame_outputs"][frame]
                    low[object_id] = out["pred_masks"][0, 0]
                masks = {key: (logits[i, 0] > 0).numpy() for i, key in enumerate(ids)}
                yield frame, masks, low


def session(variant: str = TINY, seed: int = 0, image_size: int = SMALL, count: int = COUNT) -> Sam2Session:
    return Sam2Session(Sam2VideoNetwork(network(variant, seed, image_size)), SIZE, count)


class Both:
    """Every step in both, compared: low-res logits to within `off` of their spread, and masks pixel by pixel. Pixels
    whose logit is 0 to within `off` do not count."""

    def __init__(
        self,
        folder: Path,
        variant: str = TINY,
        seed: int = 0,
        image_size: int = SMALL,
        together: int = 1,
        off: float = 0.0,
    ) -> None:
        self.reference = Reference(folder, variant, seed, image_size)
        self.ours = session(variant, seed, image_size)
        self.ours.network.max_batch, self.off = together, off
        self.areas: list[int] = []

    def add(self, frame: int, object_id: int, prompt: Prompt, select: Select = Select.BEST) -> None:
        expected = self.reference.add(frame, object_id, prompt, select)
        found = self.ours.add_prompt(frame, frames()[frame], object_id, prompt, select)
        assert np.array_equal(to_mask(found.crop), expected), f"object {object_id} prompted on frame {frame}"

    def track(self, first: int, last: int) -> None:
        for frame, masks, logits in self.reference.track(first, last):
            found = self.ours.track(frame, frames()[frame], reverse=last < first)
            assert list(found) == list(masks)
            for object_id, expected in masks.items():
                where = f"object {object_id} on frame {frame}"
                kept = self.ours.banks[object_id].get_latest(frame)
                assert kept is not None
                low = logits[object_id]
                off = self.off * float(low.std())
                assert float((kept.logits - low).abs().max()) <= off, where
                differs = to_mask(found[object_id].crop) != expected
                if off:
                    exact = bilinear(low.numpy(), HEIGHT, WIDTH)
                    differs &= ~undecided(exact, off + bilinear_error(low.numpy()))
                assert not differs.any(), where
                self.areas.append(int(expected.sum()))

    def says_something(self) -> bool:
        """Masks that are neither all empty nor all full."""
        partly = [area for area in self.areas if 0 < area < HEIGHT * WIDTH]
        return len(partly) > len(self.areas) / 2
