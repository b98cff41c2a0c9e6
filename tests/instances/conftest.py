from typing import Any

import pytest

pytest.importorskip("torchvision")

from segserve.models.export.mask_rcnn import export_mask_rcnn
from segserve.models.instances_model import InstancesModel
from segserve.models.runtime.runtime_options import RuntimeOptions
from tests.instances.networks import CLASSES, small


@pytest.fixture(scope="session")
def network() -> Any:
    return small()


@pytest.fixture(scope="session")
def model(network: Any, tmp_path_factory: pytest.TempPathFactory) -> InstancesModel:
    """Return the model of the network's bundle."""
    folder = tmp_path_factory.mktemp("mask_rcnn") / "small"
    bundle = export_mask_rcnn(network, folder, name="small", architecture="small", classes=CLASSES)
    return InstancesModel(bundle, RuntimeOptions(threads=2))
