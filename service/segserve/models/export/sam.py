"""Export a network of the SAM family (SAM, MobileSAM, the starter) as the ONNX files of a bundle."""

from pathlib import Path
from typing import Any

import torch
from segment_anything.utils.onnx import SamOnnxModel
from torch import Tensor, nn
from torch.nn import functional as F

from segserve.models.bundle import Bundle, write_manifest
from segserve.models.export.batch_norm import fold_batch_norms
from segserve.models.export.fast_decoder import FastDecoder, FinePreparation, ImagePreparation
from segserve.models.export.torch_to_onnx import export_onnx, round_to_fp16
from segserve.models.manifest import Dims, ModelKind, PreprocessEntry, PromptableManifest, Subject
from segserve.models.promptable_model import FEATURE_NAMES

BATCH_AXES = {name: {0: "images"} for name in ("image", "embedding", "high_res_0", "high_res_1")}
POINT_AXES = {"point_coords": {1: "points"}, "point_labels": {1: "points"}}
# TinyViT counts its images in Python, and tracing turns the count into a constant.
UNBATCHED_ARCHITECTURES = {"vit_t", "lite_medsam"}


class SamEncoder(nn.Module):
    """image [1, 3, S, S] -> embedding [1, C, g, g]; for the starter also its fine features, see `feature_shapes`."""

    def __init__(self, image_encoder: nn.Module) -> None:
        super().__init__()
        self.image_encoder = image_encoder

    def forward(self, image: Tensor) -> Any:
        return self.image_encoder(image)


class SamStockDecoder(SamOnnxModel):
    """segment-anything's own export model, its crop kept dynamic.

    The released package makes Python ints of the cropped size, so tracing freezes the example's aspect ratio.
    """

    def mask_postprocessing(self, masks: Tensor, orig_im_size: Tensor) -> Tensor:
        square = F.interpolate(masks, (self.img_size, self.img_size), mode="bilinear", align_corners=False)
        valid = self.resize_longest_image_size(orig_im_size, self.img_size)
        inside = square[..., : valid[0], : valid[1]]
        size = orig_im_size.to(torch.int64)
        return F.interpolate(inside, (size[0], size[1]), mode="bilinear", align_corners=False)


class FineSamStockDecoder(SamStockDecoder):
    """The same for a mask decoder that reads fine features, as two more inputs with the names of SAM 2's exports."""

    def forward(
        self,
        image_embeddings: Tensor,
        high_res_feats_0: Tensor,
        high_res_feats_1: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        masks, scores = self.model.mask_decoder.predict_masks(
            image_embeddings=image_embeddings,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=self._embed_points(point_coords, point_labels),
            dense_prompt_embeddings=self._embed_masks(mask_input, has_mask_input),
            high_res_features=[high_res_feats_0, high_res_feats_1],
        )
        return self.mask_postprocessing(masks, orig_im_size), scores, masks


def has_fine_features(mask_decoder: Any) -> bool:
    """Return whether a mask decoder reads high_res_0 and high_res_1 beside the embedding."""
    return bool(getattr(mask_decoder, "use_high_res_features", False))


def feature_shapes(channels: int, grid: int, *, fine: bool) -> tuple[tuple[int, int, int], ...]:
    """Return the shapes (channels, height, width) of the embedding and, if `fine`, of high_res_0 and high_res_1."""
    high_res = ((channels // 8, 4 * grid, 4 * grid), (channels // 4, 2 * grid, 2 * grid))
    return ((channels, grid, grid), *(high_res if fine else ()))


def export_decoders(
    prompt_encoder: Any, mask_decoder: Any, folder: Path, high_res: list[Tensor], **how: bool
) -> None:
    """Write prepare.onnx, prepare_fine.onnx where there are fine features, and the two fast decoders.

    high_res: examples of the two fine features of SAM 2 and the starter; empty for SAM.
    how: how `export_onnx` stores weights.
    """
    channels, grid = mask_decoder.transformer_dim, prompt_encoder.image_embedding_size[0]
    inputs = {
        "embedding": torch.randn(1, channels, grid, grid),
        "mask_input": torch.zeros(1, 1, 4 * grid, 4 * grid),
        "has_mask": torch.zeros(1),
    }
    prepare = ImagePreparation(prompt_encoder, mask_decoder).eval()
    export_onnx(prepare, folder / "prepare.onnx", inputs, ImagePreparation.OUTPUTS, None, **how)
    with torch.no_grad():
        prepared = dict(zip(ImagePreparation.OUTPUTS, prepare(*inputs.values()), strict=True))
        if high_res:
            prepare_fine = FinePreparation(prompt_encoder, mask_decoder).eval()
            features = dict(zip(FinePreparation.INPUTS, high_res, strict=True))
            export_onnx(
                prepare_fine, folder / "prepare_fine.onnx", features, FinePreparation.OUTPUTS, None, **how
            )
            prepared |= zip(FinePreparation.OUTPUTS, prepare_fine(*high_res), strict=True)
    click = {
        "point_coords": torch.rand(1, 2, 2),
        "point_labels": torch.tensor([[1.0, -1.0]]),
        "channels": torch.tensor([0, 1]),
        **prepared,
    }
    axes = {**POINT_AXES, "channels": {0: "masks"}, "low_res": {0: "masks"}}
    for name, fold in (("fast_decoder.onnx", True), ("fast_decoder_many.onnx", False)):
        decoder = FastDecoder(prompt_encoder, mask_decoder, fold)
        export_onnx(decoder, folder / name, click, ("low_res", "scores"), axes, **how)


def export_stock_decoder(stock: nn.Module, folder: Path, features: dict[str, Tensor], **how: bool) -> None:
    """Write decoder.onnx. It has the interface of segment-anything's own export, which browsers know.

    features: examples of the encoder's outputs by that interface's names, image_embeddings [1, C, g, g] first.
    how: how `export_onnx` stores weights.
    """
    grid = features["image_embeddings"].shape[-1]
    inputs = {
        **features,
        "point_coords": torch.rand(1, 2, 2),
        "point_labels": torch.tensor([[1.0, -1.0]]),
        "mask_input": torch.zeros(1, 1, 4 * grid, 4 * grid),
        "has_mask_input": torch.zeros(1),
        "orig_im_size": torch.tensor([480.0, 640.0]),
    }
    outputs = ("masks", "iou_predictions", "low_res_masks")
    export_onnx(stock, folder / "decoder.onnx", inputs, outputs, POINT_AXES, **how)


def write_sam_graphs(sam: Any, folder: Path, architecture: str, **how: bool) -> None:
    """Write the encoder and all decoders of a SAM. how: how `export_onnx` stores weights."""
    size = sam.image_encoder.img_size
    shapes = sam_feature_shapes(sam)
    export_onnx(
        SamEncoder(sam.image_encoder),
        folder / "encoder.onnx",
        {"image": torch.zeros(1, 3, size, size)},
        FEATURE_NAMES[: len(shapes)],
        None if architecture in UNBATCHED_ARCHITECTURES else BATCH_AXES,
        **how,
    )
    embedding, *high_res = (torch.randn(1, *shape) for shape in shapes)
    export_decoders(sam.prompt_encoder, sam.mask_decoder, folder, high_res, **how)
    stock = (FineSamStockDecoder if high_res else SamStockDecoder)(sam, return_single_mask=False)
    fine = {f"high_res_feats_{index}": feature for index, feature in enumerate(high_res)}
    export_stock_decoder(stock, folder, {"image_embeddings": embedding, **fine}, **how)


def sam_feature_shapes(sam: Any) -> tuple[tuple[int, int, int], ...]:
    """Return the shapes of the arrays that a SAM's encoder returns, see `feature_shapes`."""
    channels, grid = sam.mask_decoder.transformer_dim, sam.prompt_encoder.image_embedding_size[0]
    return feature_shapes(channels, grid, fine=has_fine_features(sam.mask_decoder))


def export_sam(
    sam: Any,
    folder: Path,
    *,
    name: str,
    architecture: str,
    description: str = "",
    licence: str = "",
    source: str = "",
    suits: tuple[Subject, ...] = (),
    stretch_percentiles: tuple[float, float] | None = None,
    fp16_weights: bool = False,
) -> Bundle:
    """Write a SAM as a bundle into `folder`.

    sam: a `segment_anything.modeling.Sam`, or a network shaped like it.
    name, architecture, description, licence, source, suits, stretch_percentiles: fields of the manifest.
    fp16_weights: round the weights to fp16 and store them so; the bundle is then exact for the rounded weights.
    """
    sam = fold_batch_norms(sam)
    if fp16_weights:
        round_to_fp16(sam)
    folder.mkdir(parents=True, exist_ok=True)
    write_sam_graphs(sam, folder, architecture, fp16_weights=fp16_weights)
    size = sam.image_encoder.img_size
    shapes = sam_feature_shapes(sam)
    mean, std = (tuple(float(v) for v in t.flatten()) for t in (sam.pixel_mean, sam.pixel_std))
    return write_manifest(
        folder,
        PromptableManifest(
            name=name,
            kind=ModelKind.SAM,
            architecture=architecture,
            description=description,
            licence=licence,
            source=source,
            suits=suits,
            mask_threshold=float(sam.mask_threshold),
            files={},
            preprocess=PreprocessEntry(
                input_size=size,
                mean=mean,
                std=std,
                resize="pad",
                stretch_percentiles=stretch_percentiles,
            ),
            dims=Dims(embedding=shapes[0], low=4 * shapes[0][1], high_res=shapes[1:]),
        ),
    )
