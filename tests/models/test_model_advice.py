"""Advice on models says what one is for, and names others: those that are here, else one to pull."""

import asyncio
import shutil
from pathlib import Path

from segserve.models.bundle import Bundle, write_manifest
from segserve.models.catalogue import PUBLISHED_MODELS
from segserve.models.manifest import Manifest, Subject
from segserve.models.model_advice import ModelAdvisor, name_subjects, write_advice
from segserve.models.registry import BUILT_IN_MODELS, ModelRegistry, RuntimeOptionsByGraph

STARTER, UNET = (Bundle(BUILT_IN_MODELS / name).manifest for name in ("starter", "starter-unet"))


def like_starter(name: str, *suits: Subject) -> Manifest:
    return STARTER.model_copy(update={"name": name, "suits": suits})


PHOTOS = like_starter("photos", Subject.PHOTOGRAPHS)
SCANS = like_starter("scans", Subject.MEDICAL, Subject.CHEST_XRAY)
UNKNOWN = like_starter("unknown")


def test_built_in_models_say_what_they_are_for() -> None:
    assert STARTER.suits == (Subject.NUCLEI, Subject.CELLS)
    assert UNET.suits == (Subject.NUCLEI,)


def test_models_that_are_here_are_named_first() -> None:
    assert write_advice(STARTER, [SCANS, STARTER, UNET, UNKNOWN, PHOTOS], PUBLISHED_MODELS) == (
        "starter knows nuclei and cells. For other pictures take the model photos (photographs) or scans (medical"
        " images and chest X-rays)."
    )
    assert write_advice(PHOTOS, [STARTER, PHOTOS], PUBLISHED_MODELS) == (
        "photos knows photographs. For other pictures take the model starter (nuclei and cells)."
    )


def test_otherwise_one_to_pull_is_named() -> None:
    assert write_advice(STARTER, [STARTER, UNET], PUBLISHED_MODELS) == (
        "starter knows nuclei and cells. For photographs fetch a model: segserve models pull mobile-sam"
    )
    assert write_advice(STARTER, [STARTER], []) == "starter knows nuclei and cells."


def test_a_model_that_does_not_say_what_it_is_for_gets_no_sentence_about_it() -> None:
    assert write_advice(UNKNOWN, [UNKNOWN, STARTER], []).startswith("For other pictures")


def test_every_subject_reads_as_a_word() -> None:
    assert name_subjects(list(Subject)) == (
        "nuclei, cells, stained tissue, organelles, photographs, medical images and chest X-rays"
    )


def test_the_advisor_reads_the_models_that_are_installed(tmp_path: Path) -> None:
    shutil.copytree(BUILT_IN_MODELS / "starter", tmp_path / "photos")
    write_manifest(tmp_path / "photos", PHOTOS)
    advisor = ModelAdvisor(
        ModelRegistry([tmp_path, BUILT_IN_MODELS], RuntimeOptionsByGraph(), budget_bytes=0)
    )
    assert "take the model photos" in asyncio.run(advisor.advise("starter"))
    shutil.rmtree(tmp_path / "photos")
    assert "take the model photos" in asyncio.run(advisor.advise("starter")), "it is kept for some time"
    assert asyncio.run(advisor.advise("photos")) == "", "gone, and perhaps still loaded"
