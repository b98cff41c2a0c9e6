"""All harnesses by name. The packages that they import are not imported where only one module is run."""

from tests.fuzz.harnesses import (
    archives,
    bodies,
    checkpoints,
    dicom,
    frontends,
    masks,
    microscopes,
    models,
    pictures,
    sandboxed_pictures,
    text,
    volumes,
)
from tests.fuzz.harnesses.harness import Harness

MODULES = (
    pictures,
    sandboxed_pictures,
    microscopes,
    volumes,
    dicom,
    archives,
    masks,
    bodies,
    frontends,
    text,
    models,
    checkpoints,
)
HARNESSES: dict[str, Harness] = {harness.name: harness for module in MODULES for harness in module.HARNESSES}
MODULE_NAMES = {
    harness.name: module.__name__.rpartition(".")[2] for module in MODULES for harness in module.HARNESSES
}
