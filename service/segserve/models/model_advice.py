"""Advice on models: what one is for, and which others to take for other pictures."""

import asyncio
import time
from collections.abc import Sequence

from segserve.models.bundle import Bundle
from segserve.models.catalogue import PUBLISHED_MODELS
from segserve.models.manifest import Manifest, PromptableManifest, Subject
from segserve.models.published_model import PublishedModel
from segserve.models.registry import ModelRegistry

MAX_NAMED = 3  # other models that are named
KEEP_S = 60.0  # advice is written anew after so long: models may have been installed or removed

# Subjects whose word alone does not read as what pictures show.
TEXTS = {
    Subject.TISSUE: "stained tissue",
    Subject.MEDICAL: "medical images",
    Subject.CHEST_XRAY: "chest X-rays",
}


def name_subjects(suits: Sequence[Subject]) -> str:
    """Return for example "nuclei, cells and stained tissue"."""
    texts = [TEXTS.get(subject, subject.value) for subject in suits]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def write_advice(model: Manifest, installed: Sequence[Manifest], published: Sequence[PublishedModel]) -> str:
    """Return what a promptable model is for, and which others are for other pictures; a sentence each.

    installed: of all models here. published: those that can be pulled; one is named if none that is here helps, the
    smallest for photographs before others.
    """
    known = set(model.suits)
    sentences = [f"{model.name} knows {name_subjects(model.suits)}."] if known else []
    others = [
        each
        for each in installed
        if isinstance(each, PromptableManifest) and each.name != model.name and not set(each.suits) <= known
    ]
    others.sort(key=lambda each: (Subject.PHOTOGRAPHS not in each.suits, each.name))
    if others:
        names = [f"{each.name} ({name_subjects(each.suits)})" for each in others[:MAX_NAMED]]
        return " ".join([*sentences, f"For other pictures take the model {' or '.join(names)}."])
    sized = [each for each in published if each.is_promptable and each.bytes and not set(each.suits) <= known]
    if sized:
        smallest = min(sized, key=lambda each: (Subject.PHOTOGRAPHS not in each.suits, each.bytes or 0))
        sentences.append(
            f"For {name_subjects(smallest.suits)} fetch a model: segserve models pull {smallest.name}"
        )
    return " ".join(sentences)


class ModelAdvisor:
    """`ModelAdvisor` writes the advice on each model, and keeps it for some time. Use it from one event loop."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self._kept: dict[str, tuple[float, str]] = {}  # by model: when it was written, and the advice

    async def advise(self, name: str) -> str:
        """Return what a promptable model that is here is for, and which others are for other pictures."""
        written, advice = self._kept.get(name, (float("-inf"), ""))
        if time.monotonic() - written > KEEP_S:
            bundles = await asyncio.to_thread(self._registry.bundles)
            advice = self._write(name, bundles)
            self._kept[name] = time.monotonic(), advice
        return advice

    def _write(self, name: str, bundles: dict[str, Bundle]) -> str:
        if name not in bundles:  # it was removed, and is still loaded
            return ""
        manifests = [bundle.manifest for bundle in bundles.values()]
        return write_advice(bundles[name].manifest, manifests, PUBLISHED_MODELS)
