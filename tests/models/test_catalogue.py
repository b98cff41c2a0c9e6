"""Every entry of the catalogue has https addresses, digests, and as many files as its kind needs."""

from pathlib import Path

import pytest

from segserve.errors import BadInput
from segserve.models.catalogue import PUBLISHED_MODELS, find_published_model
from segserve.models.download import Digest, check_https
from segserve.models.importers.import_request import CheckpointKind, OnnxPairKind
from segserve.models.importers.package_archive import is_package_archive


def test_every_published_entry_can_be_pulled() -> None:
    assert len({e.name for e in PUBLISHED_MODELS}) == len(PUBLISHED_MODELS)
    for model in PUBLISHED_MODELS:
        assert model.suits
        assert len(model.files) == (2 if model.kind in (*OnnxPairKind, CheckpointKind.MICRO_SAM) else 1)
        for file in model.files:
            assert file.url or file.package
            if file.url:
                check_https(file.url)
                assert file.url.startswith("https://")
            if file.package:
                assert is_package_archive(Path(file.package.archive))
                assert file.digest, "a package's file is taken by its digest"
            if file.digest:
                digest = Digest.parse(file.digest)
                assert len(digest.value) == {"sha256": 64, "xxh128": 32}[digest.algorithm]
    assert [e.name for e in PUBLISHED_MODELS if any(f.digest is None for f in e.files)] == ["medsam"]
    with pytest.raises(BadInput, match="Known: sam_vit_b"):
        find_published_model("nonsense")
    assert find_published_model("mobile_sam") is find_published_model("mobile-sam")
