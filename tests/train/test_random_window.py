"""Random windows of scenes for promptable models."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from segserve.train.random_window import smooth_labels


def test_enlarged_labels_lose_their_steps() -> None:
    rows, columns = np.mgrid[:12, :12] - 5.5
    small = (7 * (np.hypot(rows, columns) < 5)).astype(np.int32)
    scale = 8
    enlarged = small.repeat(scale, 0).repeat(scale, 1)
    smooth = smooth_labels(enlarged, scale)
    assert set(np.unique(smooth)) == {0, 7}
    fine_rows, fine_columns = np.mgrid[: 12 * scale, : 12 * scale] - (6 * scale - 0.5)
    truth = np.hypot(fine_rows, fine_columns) < 5 * scale
    errors = [int(((each > 0) != truth).sum()) for each in (enlarged, smooth)]
    assert errors[1] < 0.7 * errors[0]


def test_labels_that_are_not_enlarged_stay() -> None:
    labels = np.random.default_rng(0).integers(0, 5, (20, 20)).astype(np.int32)
    assert smooth_labels(labels, 1.5) is labels
