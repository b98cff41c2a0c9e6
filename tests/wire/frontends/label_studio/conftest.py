from collections.abc import Iterator

import pytest

from tests.wire.frontends.label_studio.fake_site import Site, run_site


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with run_site() as running:
        yield running
