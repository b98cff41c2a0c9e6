"""Training on a user's own images and masks: what `segserve train` does, and what made the starters.

    folder -> images and masks -> windows -> batches (data loader) -> steps (trainer) -> run folder -> bundle

    train_promptable, train_unet     a whole run: a SAM-type bundle fine-tuned, or a U-Net from zero
    dataset_folder, scenes           folders of images and masks; images prepared for training
    random_window, augmentation      random windows; flips, rotations, scale, contrast, blur
    promptable_dataset, unet_dataset the PyTorch data sets and data loaders
    training_prompts                 clicks and boxes made from the masks
    promptable_trainer, unet_trainer one step, and the state that a checkpoint holds; early stopping
    unet_networks, unet_choices      U-Net, U-Net++ and TransUNet; the names of their options
    losses, unet_losses              loss functions of promptable models, and of U-Nets
    learning_rate_schedule, ema      warm-up and cosine, moving average of the weights
    promptable_validation, unet_validation   scores on held-out images
    best_weights, training_summary   the weights that are published; what was gained over the start
    run_folder, checkpoint, plot_curves, progress   checkpoints, resuming, scores, curves

Only `cli`, `dataset_folder`, `output_target`, `run_folder`, `training_summary` and `unet_choices` import without torch.
"""

import importlib.util

from segserve.errors import MissingDependency

# (the module to find, the package that brings it)
REQUIRED_MODULES = (
    ("torch", "PyTorch"),
    ("segment_anything", "segment-anything"),
    ("onnx", "onnx"),
    ("cv2", "opencv-python-headless"),
    ("albumentations", "albumentations"),
    ("matplotlib", "matplotlib"),
)


def require_libraries() -> None:
    """Raise MissingDependency unless all libraries that training needs are installed."""
    for module, package in REQUIRED_MODULES:
        if importlib.util.find_spec(module) is None:
            raise MissingDependency(package, "train", "Training")
