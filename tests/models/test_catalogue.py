"""Every entry of the catalogue has https addresses, digests, and as many files as its kind needs."""

import pytest

from segserve.errors import BadInput
from segserve.models.catalogue import PUBLISHED_MODELS, find_published_model
from segserve.models.download import Digest, check_https
from segserve.models.importers.import_request import CheckpointKind
from segserve.models.importers.onnx_pair import OnnxPairKind


def test_every_published_entry_can_be_pulled() -> None:
    assert len({e.name for e in PUBLISHED_MODELS}) == len(PUBLISHED_MODELS)
    for model in PUBLISHED_MODELS:
        assert model.suits
        assert len(model.files) == (2 if model.kind in (*OnnxPairKind, CheckpointKind.MICRO_SAM) else 1)
        for file in model.files:
            check_https(file.url)
            assert file.url.startswith("https://")
            if file.digest:
                digest = Digest.parse(file.digest)
                assert len(digest.value) == {"sha256": 64, "xxh128": 32}[digest.algorithm]
    assert [e.name for e in PUBLISHED_MODELS if any(f.digest is None for f in e.files)] == ["medsam"]
    with pytest.raises(BadInput, match="Known: sam_vit_b"):
        find_published_model("nonsense")
