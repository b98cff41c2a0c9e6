"""Training models on a user's own images and masks: what made the starters, as commands.

    folder -> scenes -> windows -> one step after another -> run (checkpoint, scores, curves) -> bundle

    promptable   SAM-type bundles that hold their weights, trained further with prompts made from the masks
    unet         a U-Net from zero, a class for every pixel

Only the command line (`train.cli`), `folder` and `run` are free of torch.
"""

import importlib.util

from segserve.errors import MissingDependency

# The module to find, and the package that brings it
REQUIRED_MODULES = (
    ("torch", "PyTorch"),
    ("segment_anything", "segment-anything"),
    ("onnx", "onnx"),
    ("cv2", "opencv-python-headless"),
    ("albumentations", "albumentations"),
    ("matplotlib", "matplotlib"),
)


def require_libraries() -> None:
    """Raises MissingDependency unless all that training needs can be imported."""
    for module, package in REQUIRED_MODULES:
        if importlib.util.find_spec(module) is None:
            raise MissingDependency(package, "train", "Training")
