from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Normalise(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NORMALISE_UNSPECIFIED: _ClassVar[Normalise]
    NORMALISE_NONE: _ClassVar[Normalise]
    NORMALISE_MINMAX: _ClassVar[Normalise]
    NORMALISE_PERCENTILE: _ClassVar[Normalise]
    NORMALISE_AUTO: _ClassVar[Normalise]

class Stain(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAIN_UNSPECIFIED: _ClassVar[Stain]
    STAIN_HAEMATOXYLIN: _ClassVar[Stain]
    STAIN_EOSIN: _ClassVar[Stain]
    STAIN_DAB: _ClassVar[Stain]

class MaskFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MASK_FORMAT_UNSPECIFIED: _ClassVar[MaskFormat]
    MASK_FORMAT_RLE: _ClassVar[MaskFormat]
    MASK_FORMAT_POLYGON: _ClassVar[MaskFormat]
    MASK_FORMAT_PNG: _ClassVar[MaskFormat]
    MASK_FORMAT_LOGITS: _ClassVar[MaskFormat]

class Select(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SELECT_UNSPECIFIED: _ClassVar[Select]
    SELECT_BEST: _ClassVar[Select]
    SELECT_ALL: _ClassVar[Select]
    SELECT_FIRST: _ClassVar[Select]

class ResultFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESULT_FORMAT_UNSPECIFIED: _ClassVar[ResultFormat]
    RESULT_FORMAT_PNG: _ClassVar[ResultFormat]
    RESULT_FORMAT_TIFF: _ClassVar[ResultFormat]
    RESULT_FORMAT_NPY: _ClassVar[ResultFormat]
    RESULT_FORMAT_OVERLAY: _ClassVar[ResultFormat]
    RESULT_FORMAT_COCO: _ClassVar[ResultFormat]
    RESULT_FORMAT_RLE: _ClassVar[ResultFormat]
    RESULT_FORMAT_POLYGON: _ClassVar[ResultFormat]

class NmsKeeps(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NMS_KEEPS_UNSPECIFIED: _ClassVar[NmsKeeps]
    NMS_KEEPS_BEST: _ClassVar[NmsKeeps]
    NMS_KEEPS_SMALLEST: _ClassVar[NmsKeeps]
    NMS_KEEPS_LARGEST: _ClassVar[NmsKeeps]
    NMS_KEEPS_ALL: _ClassVar[NmsKeeps]

class Flips(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FLIPS_UNSPECIFIED: _ClassVar[Flips]
    FLIPS_NONE: _ClassVar[Flips]
    FLIPS_HORIZONTAL: _ClassVar[Flips]
    FLIPS_VERTICAL: _ClassVar[Flips]
    FLIPS_BOTH: _ClassVar[Flips]

class SemanticFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEMANTIC_FORMAT_UNSPECIFIED: _ClassVar[SemanticFormat]
    SEMANTIC_FORMAT_PNG: _ClassVar[SemanticFormat]
    SEMANTIC_FORMAT_TIFF: _ClassVar[SemanticFormat]
    SEMANTIC_FORMAT_NPY: _ClassVar[SemanticFormat]
    SEMANTIC_FORMAT_OVERLAY: _ClassVar[SemanticFormat]
    SEMANTIC_FORMAT_COCO: _ClassVar[SemanticFormat]
    SEMANTIC_FORMAT_RLE: _ClassVar[SemanticFormat]
    SEMANTIC_FORMAT_POLYGON: _ClassVar[SemanticFormat]
    SEMANTIC_FORMAT_PROBABILITIES: _ClassVar[SemanticFormat]
NORMALISE_UNSPECIFIED: Normalise
NORMALISE_NONE: Normalise
NORMALISE_MINMAX: Normalise
NORMALISE_PERCENTILE: Normalise
NORMALISE_AUTO: Normalise
STAIN_UNSPECIFIED: Stain
STAIN_HAEMATOXYLIN: Stain
STAIN_EOSIN: Stain
STAIN_DAB: Stain
MASK_FORMAT_UNSPECIFIED: MaskFormat
MASK_FORMAT_RLE: MaskFormat
MASK_FORMAT_POLYGON: MaskFormat
MASK_FORMAT_PNG: MaskFormat
MASK_FORMAT_LOGITS: MaskFormat
SELECT_UNSPECIFIED: Select
SELECT_BEST: Select
SELECT_ALL: Select
SELECT_FIRST: Select
RESULT_FORMAT_UNSPECIFIED: ResultFormat
RESULT_FORMAT_PNG: ResultFormat
RESULT_FORMAT_TIFF: ResultFormat
RESULT_FORMAT_NPY: ResultFormat
RESULT_FORMAT_OVERLAY: ResultFormat
RESULT_FORMAT_COCO: ResultFormat
RESULT_FORMAT_RLE: ResultFormat
RESULT_FORMAT_POLYGON: ResultFormat
NMS_KEEPS_UNSPECIFIED: NmsKeeps
NMS_KEEPS_BEST: NmsKeeps
NMS_KEEPS_SMALLEST: NmsKeeps
NMS_KEEPS_LARGEST: NmsKeeps
NMS_KEEPS_ALL: NmsKeeps
FLIPS_UNSPECIFIED: Flips
FLIPS_NONE: Flips
FLIPS_HORIZONTAL: Flips
FLIPS_VERTICAL: Flips
FLIPS_BOTH: Flips
SEMANTIC_FORMAT_UNSPECIFIED: SemanticFormat
SEMANTIC_FORMAT_PNG: SemanticFormat
SEMANTIC_FORMAT_TIFF: SemanticFormat
SEMANTIC_FORMAT_NPY: SemanticFormat
SEMANTIC_FORMAT_OVERLAY: SemanticFormat
SEMANTIC_FORMAT_COCO: SemanticFormat
SEMANTIC_FORMAT_RLE: SemanticFormat
SEMANTIC_FORMAT_POLYGON: SemanticFormat
SEMANTIC_FORMAT_PROBABILITIES: SemanticFormat

class ReadOptions(_message.Message):
    __slots__ = ("page", "channels", "normalise", "stain", "invert")
    PAGE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    NORMALISE_FIELD_NUMBER: _ClassVar[int]
    STAIN_FIELD_NUMBER: _ClassVar[int]
    INVERT_FIELD_NUMBER: _ClassVar[int]
    page: int
    channels: _containers.RepeatedScalarFieldContainer[int]
    normalise: Normalise
    stain: Stain
    invert: bool
    def __init__(self, page: _Optional[int] = ..., channels: _Optional[_Iterable[int]] = ..., normalise: _Optional[_Union[Normalise, str]] = ..., stain: _Optional[_Union[Stain, str]] = ..., invert: _Optional[bool] = ...) -> None: ...

class UploadImageRequest(_message.Message):
    __slots__ = ("options", "chunk", "model")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    options: ReadOptions
    chunk: bytes
    model: str
    def __init__(self, options: _Optional[_Union[ReadOptions, _Mapping]] = ..., chunk: _Optional[bytes] = ..., model: _Optional[str] = ...) -> None: ...

class UploadImageResponse(_message.Message):
    __slots__ = ("image_id", "width", "height", "page", "pages", "hints")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    PAGES_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    width: int
    height: int
    page: int
    pages: int
    hints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, image_id: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., page: _Optional[int] = ..., pages: _Optional[int] = ..., hints: _Optional[_Iterable[str]] = ...) -> None: ...

class GetImageRequest(_message.Message):
    __slots__ = ("image_id",)
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    def __init__(self, image_id: _Optional[str] = ...) -> None: ...

class GetImageResponse(_message.Message):
    __slots__ = ("image_id", "width", "height", "page", "pages", "hints")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    PAGES_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    width: int
    height: int
    page: int
    pages: int
    hints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, image_id: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., page: _Optional[int] = ..., pages: _Optional[int] = ..., hints: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteImageRequest(_message.Message):
    __slots__ = ("image_id",)
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    def __init__(self, image_id: _Optional[str] = ...) -> None: ...

class DeleteImageResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Point(_message.Message):
    __slots__ = ("x", "y", "negative")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    negative: bool
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ..., negative: _Optional[bool] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("x0", "y0", "x1", "y1")
    X0_FIELD_NUMBER: _ClassVar[int]
    Y0_FIELD_NUMBER: _ClassVar[int]
    X1_FIELD_NUMBER: _ClassVar[int]
    Y1_FIELD_NUMBER: _ClassVar[int]
    x0: float
    y0: float
    x1: float
    y1: float
    def __init__(self, x0: _Optional[float] = ..., y0: _Optional[float] = ..., x1: _Optional[float] = ..., y1: _Optional[float] = ...) -> None: ...

class Rle(_message.Message):
    __slots__ = ("height", "width", "counts")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    counts: str
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., counts: _Optional[str] = ...) -> None: ...

class Logits(_message.Message):
    __slots__ = ("height", "width", "data")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    data: bytes
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Prompt(_message.Message):
    __slots__ = ("points", "box", "mask_id", "mask", "logits")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    MASK_ID_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[Point]
    box: Box
    mask_id: str
    mask: Rle
    logits: Logits
    def __init__(self, points: _Optional[_Iterable[_Union[Point, _Mapping]]] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., mask_id: _Optional[str] = ..., mask: _Optional[_Union[Rle, _Mapping]] = ..., logits: _Optional[_Union[Logits, _Mapping]] = ...) -> None: ...

class SegmentRequest(_message.Message):
    __slots__ = ("image_id", "model", "prompts", "format", "select", "multimask", "raw", "tolerance")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SELECT_FIELD_NUMBER: _ClassVar[int]
    MULTIMASK_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    model: str
    prompts: _containers.RepeatedCompositeFieldContainer[Prompt]
    format: MaskFormat
    select: Select
    multimask: bool
    raw: bool
    tolerance: float
    def __init__(self, image_id: _Optional[str] = ..., model: _Optional[str] = ..., prompts: _Optional[_Iterable[_Union[Prompt, _Mapping]]] = ..., format: _Optional[_Union[MaskFormat, str]] = ..., select: _Optional[_Union[Select, str]] = ..., multimask: _Optional[bool] = ..., raw: _Optional[bool] = ..., tolerance: _Optional[float] = ...) -> None: ...

class Mask(_message.Message):
    __slots__ = ("rle", "polygon", "png", "logits", "score", "box", "area", "mask_id", "removed_parts", "filled_holes")
    RLE_FIELD_NUMBER: _ClassVar[int]
    POLYGON_FIELD_NUMBER: _ClassVar[int]
    PNG_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    AREA_FIELD_NUMBER: _ClassVar[int]
    MASK_ID_FIELD_NUMBER: _ClassVar[int]
    REMOVED_PARTS_FIELD_NUMBER: _ClassVar[int]
    FILLED_HOLES_FIELD_NUMBER: _ClassVar[int]
    rle: Rle
    polygon: str
    png: bytes
    logits: Logits
    score: float
    box: Box
    area: int
    mask_id: str
    removed_parts: int
    filled_holes: int
    def __init__(self, rle: _Optional[_Union[Rle, _Mapping]] = ..., polygon: _Optional[str] = ..., png: _Optional[bytes] = ..., logits: _Optional[_Union[Logits, _Mapping]] = ..., score: _Optional[float] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., area: _Optional[int] = ..., mask_id: _Optional[str] = ..., removed_parts: _Optional[int] = ..., filled_holes: _Optional[int] = ...) -> None: ...

class SegmentResult(_message.Message):
    __slots__ = ("masks",)
    MASKS_FIELD_NUMBER: _ClassVar[int]
    masks: _containers.RepeatedCompositeFieldContainer[Mask]
    def __init__(self, masks: _Optional[_Iterable[_Union[Mask, _Mapping]]] = ...) -> None: ...

class SegmentResponse(_message.Message):
    __slots__ = ("image_id", "model", "width", "height", "results", "hints")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    model: str
    width: int
    height: int
    results: _containers.RepeatedCompositeFieldContainer[SegmentResult]
    hints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, image_id: _Optional[str] = ..., model: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., results: _Optional[_Iterable[_Union[SegmentResult, _Mapping]]] = ..., hints: _Optional[_Iterable[str]] = ...) -> None: ...

class AisParams(_message.Message):
    __slots__ = ("center_distance_threshold", "boundary_distance_threshold", "foreground_threshold", "foreground_smoothing", "distance_smoothing", "min_size")
    CENTER_DISTANCE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    BOUNDARY_DISTANCE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    FOREGROUND_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    FOREGROUND_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    MIN_SIZE_FIELD_NUMBER: _ClassVar[int]
    center_distance_threshold: float
    boundary_distance_threshold: float
    foreground_threshold: float
    foreground_smoothing: float
    distance_smoothing: float
    min_size: int
    def __init__(self, center_distance_threshold: _Optional[float] = ..., boundary_distance_threshold: _Optional[float] = ..., foreground_threshold: _Optional[float] = ..., foreground_smoothing: _Optional[float] = ..., distance_smoothing: _Optional[float] = ..., min_size: _Optional[int] = ...) -> None: ...

class AmgParams(_message.Message):
    __slots__ = ("points_per_side", "pred_iou_thresh", "stability_score_thresh", "stability_score_offset", "box_nms_thresh", "crop_n_layers", "crop_nms_thresh", "crop_overlap_ratio", "crop_n_points_downscale_factor", "min_mask_region_area", "multimask_output", "nms_keeps")
    POINTS_PER_SIDE_FIELD_NUMBER: _ClassVar[int]
    PRED_IOU_THRESH_FIELD_NUMBER: _ClassVar[int]
    STABILITY_SCORE_THRESH_FIELD_NUMBER: _ClassVar[int]
    STABILITY_SCORE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    BOX_NMS_THRESH_FIELD_NUMBER: _ClassVar[int]
    CROP_N_LAYERS_FIELD_NUMBER: _ClassVar[int]
    CROP_NMS_THRESH_FIELD_NUMBER: _ClassVar[int]
    CROP_OVERLAP_RATIO_FIELD_NUMBER: _ClassVar[int]
    CROP_N_POINTS_DOWNSCALE_FACTOR_FIELD_NUMBER: _ClassVar[int]
    MIN_MASK_REGION_AREA_FIELD_NUMBER: _ClassVar[int]
    MULTIMASK_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    NMS_KEEPS_FIELD_NUMBER: _ClassVar[int]
    points_per_side: int
    pred_iou_thresh: float
    stability_score_thresh: float
    stability_score_offset: float
    box_nms_thresh: float
    crop_n_layers: int
    crop_nms_thresh: float
    crop_overlap_ratio: float
    crop_n_points_downscale_factor: int
    min_mask_region_area: int
    multimask_output: bool
    nms_keeps: NmsKeeps
    def __init__(self, points_per_side: _Optional[int] = ..., pred_iou_thresh: _Optional[float] = ..., stability_score_thresh: _Optional[float] = ..., stability_score_offset: _Optional[float] = ..., box_nms_thresh: _Optional[float] = ..., crop_n_layers: _Optional[int] = ..., crop_nms_thresh: _Optional[float] = ..., crop_overlap_ratio: _Optional[float] = ..., crop_n_points_downscale_factor: _Optional[int] = ..., min_mask_region_area: _Optional[int] = ..., multimask_output: _Optional[bool] = ..., nms_keeps: _Optional[_Union[NmsKeeps, str]] = ...) -> None: ...

class AutomaticRequest(_message.Message):
    __slots__ = ("image_id", "model", "format", "ais", "amg", "raw", "object_size", "scale", "tolerance")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    AIS_FIELD_NUMBER: _ClassVar[int]
    AMG_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    OBJECT_SIZE_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    model: str
    format: ResultFormat
    ais: AisParams
    amg: AmgParams
    raw: bool
    object_size: float
    scale: float
    tolerance: float
    def __init__(self, image_id: _Optional[str] = ..., model: _Optional[str] = ..., format: _Optional[_Union[ResultFormat, str]] = ..., ais: _Optional[_Union[AisParams, _Mapping]] = ..., amg: _Optional[_Union[AmgParams, _Mapping]] = ..., raw: _Optional[bool] = ..., object_size: _Optional[float] = ..., scale: _Optional[float] = ..., tolerance: _Optional[float] = ...) -> None: ...

class ImageScale(_message.Message):
    __slots__ = ("scale", "object_size", "reason")
    SCALE_FIELD_NUMBER: _ClassVar[int]
    OBJECT_SIZE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    scale: float
    object_size: float
    reason: str
    def __init__(self, scale: _Optional[float] = ..., object_size: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class SegmentedObject(_message.Message):
    __slots__ = ("rle", "polygon", "box", "area", "score", "category", "model_box")
    RLE_FIELD_NUMBER: _ClassVar[int]
    POLYGON_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    AREA_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    MODEL_BOX_FIELD_NUMBER: _ClassVar[int]
    rle: Rle
    polygon: str
    box: Box
    area: int
    score: float
    category: str
    model_box: Box
    def __init__(self, rle: _Optional[_Union[Rle, _Mapping]] = ..., polygon: _Optional[str] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., area: _Optional[int] = ..., score: _Optional[float] = ..., category: _Optional[str] = ..., model_box: _Optional[_Union[Box, _Mapping]] = ...) -> None: ...

class AutomaticResponse(_message.Message):
    __slots__ = ("image_id", "model", "width", "height", "objects", "content", "media_type", "scale", "hints")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    model: str
    width: int
    height: int
    objects: _containers.RepeatedCompositeFieldContainer[SegmentedObject]
    content: bytes
    media_type: str
    scale: ImageScale
    hints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, image_id: _Optional[str] = ..., model: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., objects: _Optional[_Iterable[_Union[SegmentedObject, _Mapping]]] = ..., content: _Optional[bytes] = ..., media_type: _Optional[str] = ..., scale: _Optional[_Union[ImageScale, _Mapping]] = ..., hints: _Optional[_Iterable[str]] = ...) -> None: ...

class SimilarParams(_message.Message):
    __slots__ = ("min_likeness", "max_size_ratio", "min_score", "max_objects", "rounds", "include_examples")
    MIN_LIKENESS_FIELD_NUMBER: _ClassVar[int]
    MAX_SIZE_RATIO_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    MAX_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    min_likeness: float
    max_size_ratio: float
    min_score: float
    max_objects: int
    rounds: int
    include_examples: bool
    def __init__(self, min_likeness: _Optional[float] = ..., max_size_ratio: _Optional[float] = ..., min_score: _Optional[float] = ..., max_objects: _Optional[int] = ..., rounds: _Optional[int] = ..., include_examples: _Optional[bool] = ...) -> None: ...

class SimilarRequest(_message.Message):
    __slots__ = ("image_id", "model", "examples", "example_image_id", "params", "format", "tolerance")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    model: str
    examples: _containers.RepeatedCompositeFieldContainer[Prompt]
    example_image_id: str
    params: SimilarParams
    format: ResultFormat
    tolerance: float
    def __init__(self, image_id: _Optional[str] = ..., model: _Optional[str] = ..., examples: _Optional[_Iterable[_Union[Prompt, _Mapping]]] = ..., example_image_id: _Optional[str] = ..., params: _Optional[_Union[SimilarParams, _Mapping]] = ..., format: _Optional[_Union[ResultFormat, str]] = ..., tolerance: _Optional[float] = ...) -> None: ...

class SimilarObject(_message.Message):
    __slots__ = ("object", "likeness", "example")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    LIKENESS_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    object: SegmentedObject
    likeness: float
    example: bool
    def __init__(self, object: _Optional[_Union[SegmentedObject, _Mapping]] = ..., likeness: _Optional[float] = ..., example: _Optional[bool] = ...) -> None: ...

class SimilarResponse(_message.Message):
    __slots__ = ("image_id", "model", "width", "height", "objects", "content", "media_type", "hints")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    model: str
    width: int
    height: int
    objects: _containers.RepeatedCompositeFieldContainer[SimilarObject]
    content: bytes
    media_type: str
    hints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, image_id: _Optional[str] = ..., model: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., objects: _Optional[_Iterable[_Union[SimilarObject, _Mapping]]] = ..., content: _Optional[bytes] = ..., media_type: _Optional[str] = ..., hints: _Optional[_Iterable[str]] = ...) -> None: ...

class TileSize(_message.Message):
    __slots__ = ("height", "width")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class Crf(_message.Message):
    __slots__ = ("iterations", "gaussian_sxy", "bilateral_sxy", "bilateral_srgb")
    ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    GAUSSIAN_SXY_FIELD_NUMBER: _ClassVar[int]
    BILATERAL_SXY_FIELD_NUMBER: _ClassVar[int]
    BILATERAL_SRGB_FIELD_NUMBER: _ClassVar[int]
    iterations: int
    gaussian_sxy: float
    bilateral_sxy: float
    bilateral_srgb: float
    def __init__(self, iterations: _Optional[int] = ..., gaussian_sxy: _Optional[float] = ..., bilateral_sxy: _Optional[float] = ..., bilateral_srgb: _Optional[float] = ...) -> None: ...

class Postprocess(_message.Message):
    __slots__ = ("opening", "closing", "fill_holes", "min_size", "keep_largest", "crf")
    OPENING_FIELD_NUMBER: _ClassVar[int]
    CLOSING_FIELD_NUMBER: _ClassVar[int]
    FILL_HOLES_FIELD_NUMBER: _ClassVar[int]
    MIN_SIZE_FIELD_NUMBER: _ClassVar[int]
    KEEP_LARGEST_FIELD_NUMBER: _ClassVar[int]
    CRF_FIELD_NUMBER: _ClassVar[int]
    opening: int
    closing: int
    fill_holes: bool
    min_size: int
    keep_largest: bool
    crf: Crf
    def __init__(self, opening: _Optional[int] = ..., closing: _Optional[int] = ..., fill_holes: _Optional[bool] = ..., min_size: _Optional[int] = ..., keep_largest: _Optional[bool] = ..., crf: _Optional[_Union[Crf, _Mapping]] = ...) -> None: ...

class SemanticRequest(_message.Message):
    __slots__ = ("image_id", "model", "tile", "overlap", "threshold", "thresholds", "tta_flips", "postprocess", "format", "tolerance")
    class ThresholdsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TILE_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    TTA_FLIPS_FIELD_NUMBER: _ClassVar[int]
    POSTPROCESS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    model: str
    tile: TileSize
    overlap: float
    threshold: float
    thresholds: _containers.ScalarMap[str, float]
    tta_flips: Flips
    postprocess: Postprocess
    format: SemanticFormat
    tolerance: float
    def __init__(self, image_id: _Optional[str] = ..., model: _Optional[str] = ..., tile: _Optional[_Union[TileSize, _Mapping]] = ..., overlap: _Optional[float] = ..., threshold: _Optional[float] = ..., thresholds: _Optional[_Mapping[str, float]] = ..., tta_flips: _Optional[_Union[Flips, str]] = ..., postprocess: _Optional[_Union[Postprocess, _Mapping]] = ..., format: _Optional[_Union[SemanticFormat, str]] = ..., tolerance: _Optional[float] = ...) -> None: ...

class ClassArea(_message.Message):
    __slots__ = ("value", "name", "area", "fraction")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    AREA_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    value: int
    name: str
    area: int
    fraction: float
    def __init__(self, value: _Optional[int] = ..., name: _Optional[str] = ..., area: _Optional[int] = ..., fraction: _Optional[float] = ...) -> None: ...

class SemanticResponse(_message.Message):
    __slots__ = ("image_id", "model", "width", "height", "classes", "content", "media_type")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    model: str
    width: int
    height: int
    classes: _containers.RepeatedCompositeFieldContainer[ClassArea]
    content: bytes
    media_type: str
    def __init__(self, image_id: _Optional[str] = ..., model: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., classes: _Optional[_Iterable[_Union[ClassArea, _Mapping]]] = ..., content: _Optional[bytes] = ..., media_type: _Optional[str] = ...) -> None: ...

class InstancesRequest(_message.Message):
    __slots__ = ("image_id", "model", "score_threshold", "nms_threshold", "mask_threshold", "max_objects", "classes", "format", "tolerance")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    NMS_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MASK_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MAX_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    model: str
    score_threshold: float
    nms_threshold: float
    mask_threshold: float
    max_objects: int
    classes: _containers.RepeatedScalarFieldContainer[str]
    format: ResultFormat
    tolerance: float
    def __init__(self, image_id: _Optional[str] = ..., model: _Optional[str] = ..., score_threshold: _Optional[float] = ..., nms_threshold: _Optional[float] = ..., mask_threshold: _Optional[float] = ..., max_objects: _Optional[int] = ..., classes: _Optional[_Iterable[str]] = ..., format: _Optional[_Union[ResultFormat, str]] = ..., tolerance: _Optional[float] = ...) -> None: ...

class InstancesResponse(_message.Message):
    __slots__ = ("image_id", "model", "width", "height", "objects", "content", "media_type")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    model: str
    width: int
    height: int
    objects: _containers.RepeatedCompositeFieldContainer[SegmentedObject]
    content: bytes
    media_type: str
    def __init__(self, image_id: _Optional[str] = ..., model: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., objects: _Optional[_Iterable[_Union[SegmentedObject, _Mapping]]] = ..., content: _Optional[bytes] = ..., media_type: _Optional[str] = ...) -> None: ...

class GetEmbeddingRequest(_message.Message):
    __slots__ = ("image_id", "model")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    model: str
    def __init__(self, image_id: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class GetEmbeddingResponse(_message.Message):
    __slots__ = ("embedding",)
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    embedding: bytes
    def __init__(self, embedding: _Optional[bytes] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "kind", "architecture", "input_size", "low_res", "description", "licence", "source", "digest", "loaded", "default", "automatic", "classes", "suits", "prompts", "engines")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    INPUT_SIZE_FIELD_NUMBER: _ClassVar[int]
    LOW_RES_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    AUTOMATIC_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    SUITS_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    architecture: str
    input_size: int
    low_res: int
    description: str
    licence: str
    source: str
    digest: str
    loaded: bool
    default: bool
    automatic: _containers.RepeatedScalarFieldContainer[str]
    classes: _containers.RepeatedScalarFieldContainer[str]
    suits: _containers.RepeatedScalarFieldContainer[str]
    prompts: _containers.RepeatedScalarFieldContainer[str]
    engines: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., architecture: _Optional[str] = ..., input_size: _Optional[int] = ..., low_res: _Optional[int] = ..., description: _Optional[str] = ..., licence: _Optional[str] = ..., source: _Optional[str] = ..., digest: _Optional[str] = ..., loaded: _Optional[bool] = ..., default: _Optional[bool] = ..., automatic: _Optional[_Iterable[str]] = ..., classes: _Optional[_Iterable[str]] = ..., suits: _Optional[_Iterable[str]] = ..., prompts: _Optional[_Iterable[str]] = ..., engines: _Optional[_Iterable[str]] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...
