"""AIS test cases: maps, parameters, and the label maps that micro-sam 1.8 computed from them.

The label maps are stored in `micro_sam_labels.npz`, so every run compares with the same ones. To compute them again,
install micro-sam and run `python -m tests.automatic.ais_cases`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segserve.types import Float32

FROZEN = Path(__file__).parent / "micro_sam_labels.npz"
PARAMS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "small left out": {"min_size": 150},
    "nothing smoothed": {"foreground_smoothing": 0, "distance_smoothing": 0},
    "much smoothed": {"foreground_smoothing": 3.3, "distance_smoothing": 4.0, "min_size": 20},
    "few seeds": {"center_distance_threshold": 0.2, "boundary_distance_threshold": 0.35},
    "wide objects": {
        "foreground_threshold": 0.2,
        "center_distance_threshold": 0.8,
        "boundary_distance_threshold": 0.9,
    },
    "no foreground": {"foreground_threshold": 1.0},
}


def drawn_labels(
    count: int, radius: int, seed: int, height: int = 180, width: int = 240
) -> NDArray[np.int32]:
    """Draw ellipses, later ones over earlier ones, so that many touch."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    labels = np.zeros((height, width), np.int32)
    for index in range(count):
        cy, cx = random.uniform(0, height), random.uniform(0, width)
        ry, rx = random.uniform(0.5, 1, 2) * radius
        labels[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1] = index + 1
    return labels


def drawn_maps(count: int, radius: int, seed: int, noise: float = 0.04) -> Float32:
    """Return the maps [3, H, W] of a decoder for drawn ellipses, blurred and with noise.

    The targets are those of torch_em's PerObjectDistanceTransform.
    """
    labels = drawn_labels(count, radius, seed)
    center, boundary = np.ones(labels.shape), np.ones(labels.shape)
    for index in np.unique(labels[labels > 0]):
        inside = labels == index
        depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        cy, cx = np.unravel_index(depth.argmax(), depth.shape)
        y, x = np.nonzero(inside)
        away = np.hypot(y - cy, x - cx)
        center[inside] = away / max(away.max(), 1)
        boundary[inside] = 1 - depth[inside] / depth.max()
    maps = np.stack([labels > 0, center, boundary]).astype(np.float32)
    maps = np.stack([ndimage.gaussian_filter(each, 0.8) for each in maps])
    maps += noise * np.random.default_rng(seed + 1).standard_normal(maps.shape)
    return np.clip(maps, 0, 1).astype(np.float32)


def all_maps() -> dict[str, Float32]:
    """Return all maps by name. Those of the starter are its stored maps of examples/nuclei.png, in 8 bits."""
    with np.load(FROZEN) as frozen:
        starter = frozen["starter's maps"].astype(np.float32) / 255
    return {
        "large ellipses": drawn_maps(25, 26, 1),
        "many small ones": drawn_maps(160, 9, 2),
        "noisy": drawn_maps(40, 18, 3, noise=0.25),
        "nothing": np.stack([np.zeros((40, 50)), np.ones((40, 50)), np.ones((40, 50))]).astype(np.float32),
        "starter's": starter,
    }


def adjusted_rand(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the adjusted Rand index over all pixels (Hubert and Arabie 1985); 1.0 if both have a single object."""
    table = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(table, (a.ravel().astype(np.intp), b.ravel().astype(np.intp)), 1)

    def pairs(counts: NDArray[Any]) -> float:
        return float((counts * (counts - 1) / 2).sum())

    together, rows, columns = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    expected = rows * columns / pairs(np.array([a.size]))
    largest = (rows + columns) / 2
    return 1.0 if largest == expected else (together - expected) / (largest - expected)


def by_micro_sam(maps: Float32, params: dict[str, Any]) -> NDArray[np.uint64]:
    """Return the label map of `InstanceSegmentationWithDecoder.generate`."""
    from micro_sam.instance_segmentation import InstanceSegmentationWithDecoder

    generator = InstanceSegmentationWithDecoder(None, None)
    names = ("foreground", "center_distances", "boundary_distances")
    generator.set_state({name: each.copy() for name, each in zip(names, maps, strict=True)})
    labels: NDArray[np.uint64] = generator.generate(**params)
    return labels


def freeze() -> None:
    with np.load(FROZEN) as frozen:
        kept = {"starter's maps": frozen["starter's maps"]}
    for maps_name, maps in all_maps().items():
        for params_name, params in PARAMS.items():
            kept[f"{maps_name}: {params_name}"] = by_micro_sam(maps, params).astype(np.uint16)
    np.savez_compressed(FROZEN, **kept)


if __name__ == "__main__":
    freeze()
