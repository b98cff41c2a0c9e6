"""Whether a model's masks survive bf16: measured once on each kind of CPU, kept beside the bundle as `agreement.json`.

CPUs differ: what one rounds to bf16 the other keeps in fp32. The file is no part of the bundle's digest: it says
something about the model and changes nothing of it.
"""

from pydantic import Field, TypeAdapter, ValidationError

from segserve.models.bundle import Bundle
from segserve.models.runtime.cpu_features import find_bf16_instructions
from segserve.models.strict_schema import StrictSchema

AGREEMENT_FILE = "agreement.json"
# A mask that an annotator cannot tell from the other has an IoU of some 0.99. The 5th percentile keeps this for nearly
# all clicks, and the mean keeps the typical click well above it.
MIN_IOU_MEAN = 0.998
MIN_IOU_P05 = 0.99


class Agreement(StrictSchema):
    """How far masks from a bf16 encoder agree with those from fp32, over clicks and boxes on the built-in pictures.

    masks: how many were compared: for each prompt the one that fp32 answers, unless it is tiny.
    iou_mean, iou_p05, iou_min: mean, 5th percentile and least IoU of the pairs.
    same_candidate: the share of prompts with several candidates for which both prefer the same.
    """

    masks: int = Field(ge=1)
    iou_mean: float = Field(ge=0, le=1)
    iou_p05: float = Field(ge=0, le=1)
    iou_min: float = Field(ge=0, le=1)
    same_candidate: float = Field(ge=0, le=1)

    @property
    def is_close(self) -> bool:
        """Whether bf16 may stand in for fp32 unasked."""
        return self.iou_mean >= MIN_IOU_MEAN and self.iou_p05 >= MIN_IOU_P05


AGREEMENTS = TypeAdapter(dict[str, Agreement])


def read_agreements(bundle: Bundle) -> dict[str, Agreement]:
    """Return what was measured for the bundle, by the instructions that multiplied. Empty if it cannot be read."""
    try:
        return AGREEMENTS.validate_json((bundle.folder / AGREEMENT_FILE).read_bytes())
    except (OSError, ValidationError):
        return {}


def write_agreement(bundle: Bundle, instructions: str, agreement: Agreement) -> None:
    """Keep what was measured with these instructions, beside what was with others."""
    agreements = read_agreements(bundle) | {instructions: agreement}
    (bundle.folder / AGREEMENT_FILE).write_bytes(AGREEMENTS.dump_json(agreements, indent=2) + b"\n")


def may_take_bf16(bundle: Bundle) -> bool:
    """Whether the bundle's masks were found to agree on a CPU that multiplies as this one."""
    agreement = read_agreements(bundle).get(find_bf16_instructions() or "")
    return agreement is not None and agreement.is_close
