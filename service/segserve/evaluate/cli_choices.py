"""The choices that `segserve evaluate` offers on the command line. Importing this module is fast."""

from enum import StrEnum

DEFAULT_STEPS = 8  # micro-sam's n_iterations: the first prompt and seven corrections


class MapKind(StrEnum):
    """The meaning of a map's values."""

    LABELS = "labels"  # ids of objects; 0 is background
    CLASSES = "classes"  # a class for every pixel
    BINARY = "binary"  # one region: 0 is background, every other value is foreground


class FirstPrompt(StrEnum):
    """The prompt that an object gets first."""

    POINT = "point"
    BOX = "box"


class Correction(StrEnum):
    """The clicks that correct a prediction."""

    # As micro-sam's `IterativePromptGenerator`: each step clicks a random missed pixel and a random excess pixel.
    PAIRS = "pairs"
    # One click at the deepest pixel of the larger error, as SAM's paper and a careful annotator do.
    DEEPEST = "deepest"
