"""Export a SAM 2 network (2.0 or 2.1, image mode) as the ONNX files of a bundle."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segserve.models.bundle import Bundle, write_manifest
from segserve.models.export.fast_decoder import embed_mask, embed_points
from segserve.models.export.sam import BATCH_AXES, export_decoders, export_stock_decoder, feature_shapes
from segserve.models.export.torch_to_onnx import export_onnx
from segserve.models.manifest import Dims, ModelKind, PreprocessEntry, PromptableManifest, Subject
from segserve.models.promptable_model import FEATURE_NAMES
from segserve.models.templates.architectures import SAM2_MEAN, SAM2_STD

# SAM2ImagePredictor clamps the logits that it returns as priors.
LOGIT_LIMIT = 32.0


class Sam2Encoder(nn.Module):
    """image [1, 3, S, S] -> embedding [1, C, g, g], high_res_0 [1, C/8, 4g, 4g], high_res_1 [1, C/4, 2g, 2g].

    The outputs are those that `SAM2ImagePredictor.set_image` keeps: the decoder's own projections of the finer levels
    are applied, and the "no memory" embedding is added.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine, middle, coarse = self.model.forward_image(image)["backbone_fpn"][-3:]
        if self.model.directly_add_no_mem_embed:
            coarse = coarse + self.model.no_mem_embed.reshape(1, -1, 1, 1)
        return coarse, fine, middle


class Sam2StockDecoder(nn.Module):
    """The interface of segment-anything's own export, with SAM 2's two features added.

    point_coords: [1, N, 2] in input pixels; they end with the padding point that SAM 2 always reads.
    point_labels: [1, N]; they end with the padding point's label, -1.
    orig_im_size: [2] float32, height and width.

    -> masks [1, 4, H, W] logits, iou_predictions [1, 4], low_res_masks [1, 4, 4g, 4g] clamped to +-32.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.prompt_encoder, self.mask_decoder = model.sam_prompt_encoder, model.sam_mask_decoder

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
        masks, scores, _, _ = self.mask_decoder.predict_masks(
            image_embeddings=image_embeddings,
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=embed_points(self.prompt_encoder, point_coords, point_labels),
            dense_prompt_embeddings=embed_mask(self.prompt_encoder, mask_input, has_mask_input),
            repeat_image=False,
            high_res_features=[high_res_feats_0, high_res_feats_1],
        )
        height, width = orig_im_size.to(torch.int64)
        full = F.interpolate(masks, size=(height, width), mode="bilinear", align_corners=False)
        return full, scores, torch.clamp(masks, -LOGIT_LIMIT, LOGIT_LIMIT)


def sam2_feature_shapes(model: Any) -> tuple[tuple[int, int, int], ...]:
    """Return the shapes (channels, height, width) of the embedding, high_res_0 and high_res_1."""
    return feature_shapes(model.sam_mask_decoder.transformer_dim, model.sam_image_embedding_size, fine=True)


def write_sam2_graphs(model: Any, folder: Path, **how: bool) -> None:
    """Write the encoder and all decoders of a SAM 2. how: how `export_onnx` stores weights."""
    size = model.image_size
    export_onnx(
        Sam2Encoder(model),
        folder / "encoder.onnx",
        {"image": torch.zeros(1, 3, size, size)},
        FEATURE_NAMES,
        BATCH_AXES,
        **how,
    )
    embedding, fine, middle = (torch.randn(1, *shape) for shape in sam2_feature_shapes(model))
    export_decoders(model.sam_prompt_encoder, model.sam_mask_decoder, folder, [fine, middle], **how)
    features = {"image_embeddings": embedding, "high_res_feats_0": fine, "high_res_feats_1": middle}
    export_stock_decoder(Sam2StockDecoder(model), folder, features, **how)


def export_sam2(
    model: Any,
    folder: Path,
    *,
    name: str,
    architecture: str,
    description: str = "",
    licence: str = "",
    source: str = "",
    suits: tuple[Subject, ...] = (),
    fp16_weights: bool = False,
) -> Bundle:
    """Write a SAM 2 as a bundle into `folder`.

    model: a `sam2.modeling.sam2_base.SAM2Base`.
    name, architecture, description, licence, source, suits: fields of the manifest.
    fp16_weights: see `export_onnx`.
    """
    model = model.eval()
    folder.mkdir(parents=True, exist_ok=True)
    write_sam2_graphs(model, folder, fp16_weights=fp16_weights)
    size, shapes = model.image_size, sam2_feature_shapes(model)
    return write_manifest(
        folder,
        PromptableManifest(
            name=name,
            kind=ModelKind.SAM2,
            architecture=architecture,
            description=description,
            licence=licence,
            source=source,
            suits=suits,
            files={},
            preprocess=PreprocessEntry(input_size=size, mean=SAM2_MEAN, std=SAM2_STD, resize="stretch"),
            dims=Dims(embedding=shapes[0], low=4 * shapes[0][1], high_res=shapes[1:]),
        ),
    )
