"""The search of one region, with the starter."""

from pathlib import Path

import numpy as np
import pytest

from segserve.decode.decode_prompt import decode_prompt
from segserve.encode.prepared_cache import PreparedImage
from segserve.encode.preprocess import preprocess_image
from segserve.errors import TooLarge
from segserve.images.read_image import read_image
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import BUILT_IN_MODELS, ModelRegistry, RuntimeOptionsByGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.similar.examples import ExampleRegion, ExampleSet, describe_examples, to_low
from segserve.similar.options import SimilarOptions
from segserve.similar.search_region import MAX_MASK_BYTES, RegionSearch
from segserve.timing import Timings
from segserve.types import Bool, Crop, Prompt, ReadOptions, Select, Size

ON_NUCLEI = [(413, 190), (120, 80)]


@pytest.fixture(scope="module")
def model() -> PromptableModel:
    one = RuntimeOptions(threads=1)
    registry = ModelRegistry([BUILT_IN_MODELS], RuntimeOptionsByGraph(one, one, one), 1 << 40)
    return registry.load("starter", PromptableModel)


@pytest.fixture(scope="module")
def image(model: PromptableModel, nuclei: Path) -> PreparedImage:
    with nuclei.open("rb") as file:
        pixels = read_image(file, ReadOptions(), 1 << 24)
    embedding = model.encode(preprocess_image(pixels, model.preprocess))
    return PreparedImage(Size(*pixels.shape[:2]), embedding, model.prepare(embedding, None))


@pytest.fixture(scope="module")
def masks(model: PromptableModel, image: PreparedImage) -> list[Crop]:
    prompts = [Prompt(np.array([point], np.float32), np.ones(1, np.int64)) for point in ON_NUCLEI]
    return [
        decode_prompt(model, image, prompt, None, Select.BEST, Timings(), raw=False)[0].crop
        for prompt in prompts
    ]


@pytest.fixture(scope="module")
def examples(model: PromptableModel, image: PreparedImage, masks: list[Crop]) -> ExampleSet:
    described = describe_examples([ExampleRegion(image, masks)], model.manifest)
    assert described is not None
    return described


@pytest.fixture(scope="module")
def taken(model: PromptableModel, masks: list[Crop]) -> Bool:
    both: Bool = np.logical_or.reduce([to_low(mask, model.manifest) for mask in masks])
    return both


def test_each_round_adds_what_is_not_taken(
    model: PromptableModel, image: PreparedImage, examples: ExampleSet, taken: Bool
) -> None:
    search = RegionSearch(model, image, examples, SimilarOptions(), taken)
    covered = taken.astype(int)
    for expected in (5, 0):
        points = search.begin_round()
        assert all(0 <= x < image.size.width and 0 <= y < image.size.height for x, y in points)
        before = len(search.found)
        added = search.end_round([search.decode(point) for point in points])
        assert added == len(search.found) - before >= expected
    for item in search.found:
        height, width = item.low.pixels.shape
        covered[item.low.y : item.low.y + height, item.low.x : item.low.x + width] += item.low.pixels
    assert (covered > 1).sum() <= 0.1 * (covered > 0).sum(), "objects hardly overlap"
    assert all(
        examples.min_area / 2.5 < item.crop.pixels.sum() < examples.max_area * 2.5 for item in search.found
    )
    assert not search.end_round(search.found), "what is taken is not found again"


def test_masks_are_bounded_before_they_are_made(
    model: PromptableModel, image: PreparedImage, examples: ExampleSet, taken: Bool
) -> None:
    search = RegionSearch(model, image, examples, SimilarOptions(), taken, held_bytes=MAX_MASK_BYTES)
    points = search.begin_round()
    with pytest.raises(TooLarge):
        [search.decode(point) for point in points]
