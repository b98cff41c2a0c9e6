"""Whether bf16 may stand in for fp32: what is measured, where it is kept, and when it is believed."""

import shutil
from pathlib import Path

import pytest

from segserve.models import agreement, measure_agreement
from segserve.models.agreement import (
    AGREEMENT_FILE,
    Agreement,
    may_take_bf16,
    read_agreements,
    write_agreement,
)
from segserve.models.bundle import Bundle
from segserve.models.registry import BUILT_IN_MODELS, RuntimeOptionsByGraph
from segserve.models.runtime.cpu_features import find_bf16_instructions
from segserve.types import Precision

CLOSE = Agreement(masks=100, iou_mean=0.9991, iou_p05=0.995, iou_min=0.97, same_candidate=0.98)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    shutil.copytree(BUILT_IN_MODELS / "starter", tmp_path / "starter")
    (tmp_path / "starter" / AGREEMENT_FILE).unlink(missing_ok=True)
    return Bundle(tmp_path / "starter")


@pytest.mark.parametrize(
    ("changed", "is_close"),
    [({}, True), ({"iou_mean": 0.9979}, False), ({"iou_p05": 0.9899}, False), ({"iou_min": 0.5}, True)],
)
def test_the_mean_and_the_fifth_percentile_decide(changed: dict[str, float], is_close: bool) -> None:
    assert CLOSE.model_copy(update=changed).is_close == is_close


def test_each_kind_of_cpu_has_its_own_measurement(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = bundle.digest
    write_agreement(bundle, "amx_bf16", CLOSE)
    write_agreement(bundle, "avx512_bf16", CLOSE.model_copy(update={"iou_mean": 0.9}))
    assert read_agreements(bundle).keys() == {"amx_bf16", "avx512_bf16"}
    assert Bundle(bundle.folder).digest == digest  # it is the same model
    Bundle(bundle.folder).verify()
    for instructions, expected in (("amx_bf16", True), ("avx512_bf16", False), (None, False)):
        monkeypatch.setattr(agreement, "find_bf16_instructions", lambda name=instructions: name)
        assert may_take_bf16(bundle) == expected
        auto = RuntimeOptionsByGraph(embedding_precision=None).choose_embedding_precision(bundle)
        assert auto is (Precision.BF16 if expected else Precision.FP32)


@pytest.mark.parametrize("content", [None, b"no json", b'{"amx_bf16": {"iou_mean": 2}}', b"[]"])
def test_a_file_that_is_missing_or_broken_counts_as_not_measured(
    content: bytes | None, bundle: Bundle
) -> None:
    if content is not None:
        (bundle.folder / AGREEMENT_FILE).write_bytes(content)
    assert read_agreements(bundle) == {}
    assert not may_take_bf16(bundle)


def test_a_measurement_compares_the_masks_of_real_pictures(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    if find_bf16_instructions() is None:
        pytest.skip("this CPU does not compute in bf16")
    shutil.copy(measure_agreement.PICTURES / "nuclei.jpg", tmp_path)
    monkeypatch.setattr(measure_agreement, "PICTURES", tmp_path)
    seen: list[str] = []
    found = measure_agreement.measure_agreement(bundle, 1, seen.append)
    assert seen == ["nuclei"]
    assert 20 < found.masks <= 25 + 2 * 9
    assert 0.95 < found.iou_mean <= 1
    assert found.iou_min <= found.iou_p05 <= found.iou_mean
