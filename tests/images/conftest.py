import pytest

from segserve.images import tile_pyramid


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_pyramid, "TILE_SIDE_PX", 64)
