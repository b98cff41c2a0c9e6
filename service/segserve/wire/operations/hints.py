"""Hints in answers: that they are doubtful, since the model may not know such pictures, or that they are of one page.

Both limits are measured with the starter, on 357 nuclei of 60 held-out images and on photographs of scikit-image.
"""

from collections.abc import Sequence
from dataclasses import replace

from segserve.app import Service
from segserve.identity.identity import current_tenant
from segserve.types import ImageObjects
from segserve.wire.results.image import list_page_hints

# Scores (predicted IoU) below it: clicks in the middle of nuclei 1.7%, anywhere inside them 2.5%, boxes around them
# 0.8%; clicks on photographs 94%, boxes on them 54%.
LOW_SCORE = 0.4
# Certainties of AIS below it: 2 of the 60 images of nuclei, all of 11 other pictures.
LOW_CERTAINTY = 0.6


async def hint_low_scores(service: Service, model: str, scores: Sequence[float]) -> tuple[str, ...]:
    """Return a hint if the best mask of a prompt has a low score, none otherwise.

    scores: of the best mask of each prompt.
    """
    low = [score for score in scores if score < LOW_SCORE]
    if not low:
        return ()
    share = f" ({len(low)} of {len(scores)} prompts)" if len(scores) > 1 else ""
    doubt = f"A score of {min(low):.2f} is low{share}: more points or a box may help."
    return (await add_advice(service, model, doubt),)


async def hint_doubtful_objects(service: Service, result: ImageObjects) -> tuple[str, ...]:
    """Return a hint if a whole image has no objects, or if the model is not certain of them; none otherwise."""
    if not result.objects:
        doubt = "No object was found."
    elif result.certainty is not None and result.certainty < LOW_CERTAINTY:
        doubt = f"The objects are doubtful: where they are, the model's certainty is {result.certainty:.2f}."
    else:
        return ()
    return (await add_advice(service, result.model, doubt),)


async def add_page_hints(service: Service, result: ImageObjects) -> ImageObjects:
    """Return the objects of an image with a hint first, where it is the first page of a stack, and only it was read.

    Raises ImageNotFound where it was deleted meanwhile.
    """
    record = await service.images.get_record(current_tenant(), result.image_id)
    return replace(result, hints=(*list_page_hints(record), *result.hints))


async def add_advice(service: Service, model: str, doubt: str) -> str:
    return f"{doubt} {await service.model_advisor.advise(model)}".strip()
