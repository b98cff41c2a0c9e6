"""The architectures that templates exist for: their graphs, and what their manifests say."""

from dataclasses import dataclass

from segserve.models.manifest import Dims, PreprocessEntry

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
DECODER_GRAPHS = ("prepare", "fast_decoder", "fast_decoder_many", "decoder")


@dataclass(frozen=True)
class SamArchitecture:
    """A SAM: an encoder's template and the decoders' templates.

    encoder, decoders: folders of templates.
    patches: the tensor of the first convolution; width: its output channels; kernel: its edge, pixels. They tell the
        architectures apart.
    """

    name: str
    encoder: str
    decoders: str
    patches: str
    width: int
    kernel: int
    preprocess: PreprocessEntry
    dims: Dims

    @property
    def templates(self) -> dict[str, str]:
        """The template of each graph of the bundle, by the graph's name."""
        return {
            "encoder": f"{self.encoder}/encoder",
            **{graph: f"{self.decoders}/{graph}" for graph in DECODER_GRAPHS},
        }


VIT_PATCHES = "image_encoder.patch_embed.proj.weight"
TINY_VIT_PATCHES = "image_encoder.patch_embed.seq.0.c.weight"
PREPROCESS_1024 = PreprocessEntry(input_size=1024, mean=IMAGENET_MEAN, std=IMAGENET_STD, resize="pad")
DIMS_64 = Dims(embedding=(256, 64, 64), low=256)


def sam_architecture(name: str, patches: str, width: int, kernel: int) -> SamArchitecture:
    """Return an architecture of 1024 x 1024 pixels and SAM's decoders."""
    return SamArchitecture(name, name, "sam_1024", patches, width, kernel, PREPROCESS_1024, DIMS_64)


VIT_T = sam_architecture("vit_t", TINY_VIT_PATCHES, 32, 3)
VIT_B = sam_architecture("vit_b", VIT_PATCHES, 768, 16)
VIT_L = sam_architecture("vit_l", VIT_PATCHES, 1024, 16)
VIT_H = sam_architecture("vit_h", VIT_PATCHES, 1280, 16)
# LiteMedSAM: vit_t on 256 x 256 pixels, whose first convolutions keep the resolution. Its preprocessing is that of its
# inference script (bowang-lab/MedSAM, branch LiteMedSAM).
LITE_MEDSAM = SamArchitecture(
    "lite_medsam",
    "lite_medsam",
    "sam_256",
    TINY_VIT_PATCHES,
    32,
    1,
    PreprocessEntry(
        input_size=256, mean=(0, 0, 0), std=(255, 255, 255), resize="pad", stretch_percentiles=(0, 100)
    ),
    DIMS_64,
)
SAM_ARCHITECTURES = {
    architecture.name: architecture for architecture in (VIT_T, VIT_B, VIT_L, VIT_H, LITE_MEDSAM)
}
