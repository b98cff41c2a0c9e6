"""The options of a search for similar objects, with their defaults and limits."""

from dataclasses import dataclass

MAX_EXAMPLES = 64
MAX_OBJECTS = 2000
MAX_ROUNDS = 5


@dataclass(frozen=True)
class SimilarOptions:
    """The options of a search.

    min_likeness: objects less like the examples are left out. 1 is as like as the examples are themselves, 0 as the
        image is on average. See `likeness.py`.
    max_size_ratio: objects whose area is so many times that of the largest example are left out, and those as many
        times smaller than the smallest one.
    min_score: masks with a lower predicted IoU are left out, 0 to 1.
    max_objects: the search ends with so many objects; 1 to MAX_OBJECTS.
    rounds: how often a region is searched. From the second round on, what was found counts as examples too, and places
        that are taken are passed over; 1 to MAX_ROUNDS.
    include_examples: answer the examples too.
    """

    min_likeness: float = 0.6
    max_size_ratio: float = 2.0
    min_score: float = 0.5
    max_objects: int = 500
    rounds: int = 2
    include_examples: bool = False
