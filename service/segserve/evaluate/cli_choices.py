"""What can be chosen on the command line. Nothing here takes time to import."""

from enum import StrEnum

DEFAULT_STEPS = 8  # micro-sam's n_iterations: the first prompt and seven corrections


class MapKind(StrEnum):
    """What the values of a map mean."""

    LABELS = "labels"  # objects' ids; 0 is background
    CLASSES = "classes"
    BINARY = "binary"  # 0 is background, everything else is not


class FirstPrompt(StrEnum):
    """How an object is asked for first."""

    POINT = "point"
    BOX = "box"


class Correction(StrEnum):
    """How an answer is corrected."""

    # As μSAM's `IterativePromptGenerator`: a random pixel that is missed and a random one too much, each step.
    PAIRS = "pairs"
    # One click at the deepest pixel of the larger of both errors, as SAM's paper and a careful annotator do.
    DEEPEST = "deepest"
