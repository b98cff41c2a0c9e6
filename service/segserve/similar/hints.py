"""Hints: what may be wrong with the answer of a search, and what to do about it."""

from segserve.similar.examples import ExampleSet
from segserve.similar.options import SimilarOptions

# An example that is so little like the others says that there are two kinds of objects.
MIN_EXAMPLE_LIKENESS = 0.4
# Where the response of so much of the image reaches the examples', they do not stand out from the background.
MAX_SIMILAR_SHARE = 0.5

NOTHING_STANDS_OUT = (
    "The examples do not differ from their image as this model sees it: mark objects, not background, or take another"
    " model."
)


def find_hints(
    examples: ExampleSet, options: SimilarOptions, similar_share: float, count: int
) -> tuple[str, ...]:
    """Return the hints about an answer, a sentence or two each.

    similar_share: part of the image whose response reaches `min_likeness`, 0 to 1. count: objects that were found.
    """
    hints = [
        f"Example {index} is little like the others (likeness {likeness:.2f}): ask for one kind of object at a time."
        for index, likeness in enumerate(examples.likenesses)
        if likeness < MIN_EXAMPLE_LIKENESS
    ]
    if similar_share > MAX_SIMILAR_SHARE:
        hints.append(
            f"{similar_share:.0%} of the image is like the examples, which do not stand out from the background: raise"
            " min_likeness, or take a model that knows such objects."
        )
    if not count:
        hints.append(
            "Nothing like the examples was found: mark more of them, or lower min_likeness"
            f" ({options.min_likeness:g}) or min_score ({options.min_score:g}), or raise max_size_ratio"
            f" ({options.max_size_ratio:g})."
        )
    return tuple(hints)
