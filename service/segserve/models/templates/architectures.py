"""The architectures that templates exist for: their graphs, and what their manifests say."""

from dataclasses import dataclass

from segserve.models.manifest import Dims, ModelKind, PreprocessEntry

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
DECODER_GRAPHS = ("prepare", "fast_decoder", "fast_decoder_many", "decoder")
FINE_DECODER_GRAPHS = ("prepare_fine", *DECODER_GRAPHS)  # of models with fine features


@dataclass(frozen=True)
class SamArchitecture:
    """A SAM or SAM 2: an encoder's template and the decoders' templates.

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
    kind: ModelKind = ModelKind.SAM

    @property
    def input_size(self) -> int:
        return self.preprocess.input_size

    @property
    def templates(self) -> dict[str, str]:
        """The template of each graph of the bundle, by the graph's name."""
        graphs = FINE_DECODER_GRAPHS if self.dims.high_res else DECODER_GRAPHS
        return {
            "encoder": f"{self.encoder}/encoder",
            **{graph: f"{self.decoders}/{graph}" for graph in graphs},
        }


@dataclass(frozen=True)
class SemanticArchitecture:
    """A network of one graph. input_size: edge of the images that it was trained on, pixels."""

    name: str
    input_size: int

    @property
    def templates(self) -> dict[str, str]:
        return {"model": f"{self.name}/model"}


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


# Those of sam2.utils.transforms.SAM2Transforms, on the 0..255 scale.
SAM2_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
SAM2_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
SAM2_PATCHES = "image_encoder.trunk.patch_embed.proj.weight"
SAM2_DIMS = Dims(embedding=(256, 64, 64), low=256, high_res=((32, 256, 256), (64, 128, 128)))
SAM2_PREPROCESS = PreprocessEntry(input_size=1024, mean=SAM2_MEAN, std=SAM2_STD, resize="stretch")


def sam2_architecture(size: str, width: int) -> SamArchitecture:
    """Return a SAM 2 in image mode. Versions 2 and 2.1 differ in their memory for videos only."""
    name = f"hiera_{size}"
    return SamArchitecture(
        name, name, "sam2_1024", SAM2_PATCHES, width, 7, SAM2_PREPROCESS, SAM2_DIMS, ModelKind.SAM2
    )


SAM2_ARCHITECTURES = {
    size: sam2_architecture(size, width)
    for size, width in (("tiny", 96), ("small", 96), ("base_plus", 112), ("large", 144))
}
ARCHITECTURES = {
    **SAM_ARCHITECTURES,
    **{architecture.name: architecture for architecture in SAM2_ARCHITECTURES.values()},
}
VGG_UNET = SemanticArchitecture("vgg_unet", 512)
TEMPLATE_ARCHITECTURES: dict[str, SamArchitecture | SemanticArchitecture] = {
    **ARCHITECTURES,
    VGG_UNET.name: VGG_UNET,
}
