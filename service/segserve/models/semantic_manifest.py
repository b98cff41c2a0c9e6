"""Parts of a `SemanticManifest`: how an image is prepared for the network, and how its class map is cleaned up.

Images arrive as 8-bit RGB (see `segserve.images`). They are prepared in this order:

    1. grey      where the network takes one channel: Rec. 601 luma, which leaves a grey image unchanged
    2. clahe     local contrast, where the manifest has it
    3. normalise one of Fixed, Percentile, Standardise; statistics are those of the whole image, never of a tile
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from segserve.models.strict_schema import StrictSchema

Floats = Annotated[tuple[float, ...], Field(min_length=1, max_length=3)]
Eps = Annotated[float, Field(ge=0, description="added to the divisor")]


class Clahe(StrictSchema):
    """Contrast-limited adaptive histogram equalisation (Zuiderveld, Graphics Gems IV, 1994), as OpenCV's
    `createCLAHE(clip_limit, (tiles, tiles))` computes it.

    clip_limit: in multiples of a flat histogram's bin. tiles: tiles a side. In colour images the lightness (L of
    CIELAB) is equalised, as albumentations does.
    """

    clip_limit: float = Field(4.0, gt=0, le=256)
    tiles: int = Field(8, ge=1, le=64)


class Fixed(StrictSchema):
    """(x - mean) / std, with the same numbers for every image.

    white: the number that the value 255 stands for, so that mean and std can be those of the training code: 1 for
        means like 0.485, 255 for means like 123.675.
    mean, std: one number for all channels, or one for each channel in the order R, G, B.
    """

    method: Literal["fixed"] = "fixed"
    mean: Floats = (0.0,)
    std: Floats = (1.0,)
    white: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def check_std(self) -> "Fixed":
        if not all(self.std):
            raise ValueError("std must not be 0")
        return self


class Percentile(StrictSchema):
    """Map the image's low and high percentile to 0 and 1, then (x - mean) / std.

    low, high: percentiles; 0 and 100 are the image's minimum and maximum.
    clip: values beyond the percentiles become 0 and 1.
    per_channel: take the percentiles of each channel by itself.
    """

    method: Literal["percentile"]
    low: float = Field(1.0, ge=0, le=100)
    high: float = Field(99.0, ge=0, le=100)
    per_channel: bool = True
    clip: bool = False
    eps: Eps = 1e-6
    mean: Floats = (0.0,)
    std: Floats = (1.0,)

    @model_validator(mode="after")
    def check_order(self) -> "Percentile":
        if not self.low < self.high or not all(self.std):
            raise ValueError("low must be below high, and std not 0")
        return self


class Standardise(StrictSchema):
    """Zero mean and unit variance for each image. per_channel: for each channel by itself."""

    method: Literal["standardise"]
    per_channel: bool = True
    eps: Eps = 1e-6


Normalisation = Annotated[Fixed | Percentile | Standardise, Field(discriminator="method")]


class SemanticInput(StrictSchema):
    """How an image is prepared. channels: 1 grey, 3 RGB. normalise: may also be spelled normalize."""

    channels: Literal[1, 3] = 3
    clahe: Clahe | None = None
    normalise: Normalisation = Fixed()

    @model_validator(mode="before")
    @classmethod
    def accept_normalize(cls, content: Any) -> Any:
        if not isinstance(content, dict) or "normalize" not in content:
            return content
        fields = {**content}
        american = fields.pop("normalize")
        if fields.setdefault("normalise", american) != american:
            raise ValueError("normalise and normalize differ: send one of them")
        return fields

    @model_validator(mode="after")
    def check_channel_count(self) -> "SemanticInput":
        for name in ("mean", "std"):
            if len(getattr(self.normalise, name, ())) not in (0, 1, self.channels):
                raise ValueError(f"{name} needs one number, or one for each of {self.channels} channels")
        return self


class Crf(StrictSchema):
    """A fully connected CRF over the probabilities. The fields have the names of pydensecrf.

    gaussian_sxy: how far near pixels pull each other to the same class, in pixels.
    bilateral_sxy: how far pixels of a similar colour pull each other to the same class, in pixels.
    bilateral_srgb: which difference in colour counts as similar, in grey levels.

    Values below 1 have no effect on neighbours. Near 0 the library divides by zero and kills the process.
    """

    iterations: int = Field(5, ge=1, le=20)
    gaussian_sxy: float = Field(3.0, ge=1, le=100)
    bilateral_sxy: float = Field(80.0, ge=1, le=1000)
    bilateral_srgb: float = Field(13.0, ge=1, le=255)


class Postprocess(StrictSchema):
    """Clean-up of the class map. The crf works on the probabilities, before the thresholds; the other steps work on
    each class by itself, in the order of the fields. A field at its default does nothing.

    opening, closing: radius of the disc, in pixels.
    fill_holes: background enclosed by the class joins it.
    min_size: connected parts of fewer pixels are removed.
    keep_largest: only the largest connected part stays.

    Pixels are connected by edges or corners.
    """

    crf: Crf | None = None
    opening: int = Field(0, ge=0, le=64)
    closing: int = Field(0, ge=0, le=64)
    fill_holes: bool = False
    min_size: int = Field(0, ge=0)
    keep_largest: bool = False
