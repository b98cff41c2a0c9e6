"""The capabilities that nnInteractive's client is told, and the kind of model that answers."""

from typing import Any

from segserve import __version__
from segserve.jobs.kinds.job_requests import EngineName
from segserve.models.bundle import Bundle
from segserve.wire.operations.propagation import choose_engine

# The client's version whose protocol this is.
PROTOCOL_VERSION = "2.6.0"
DESCRIPTIONS = {
    EngineName.PROJECTION: "a model of single pictures, whose mask of one slice prompts the next",
    EngineName.MEMORY: "a model of videos, which follows the object from slice to slice with a memory",
}


def describe_capabilities(bundle: Bundle) -> dict[str, Any]:
    """Return the capabilities of a promptable model. The fields up to `supports_undo` are those of the protocol."""
    engine = choose_engine(bundle, None)
    return {
        "supported_interactions": {
            "points": True,
            "scribble": True,
            "lasso": True,
            "bbox2d": True,
            "bbox3d": False,
        },
        "supports_initial_label": True,
        "supports_zero_shot_label_refinement": True,
        # Of nnInteractive's network, which is not what answers here. The client keeps them and uses none.
        "channel_mapping": {
            "prev_seg": 0,
            "bbox2d": [1, 2],
            "bbox3d": [1, 2],
            "lasso": [1, 2],
            "points": [3, 4],
            "scribble": [5, 6],
        },
        "num_interaction_channels": 7,
        "preferred_scribble_thickness": [2, 2, 2],
        "interaction_decay": None,
        "patch_size": None,
        "do_autozoom": False,
        "inference_session_version": PROTOCOL_VERSION,
        "license": bundle.manifest.licence,
        "supports_undo": True,
        "server": f"segserve {__version__}",
        "model": bundle.name,
        "engine": engine,
        "description": f"Not nnInteractive's network of three dimensions, but {DESCRIPTIONS[engine]}.",
    }
