/**
 * x, y in pixels of the image; (0, 0) is its top left corner.
 */
export type Point = [number, number];
/**
 * x0, y0, x1, y1 in pixels of the image.
 */
export type Box = [number, number, number, number];
/**
 * A mask as COCO's compressed run lengths.
 */
export type Rle = {
    /**
     * height, width
     */
    size: [number, number];
    counts: string;
};
/**
 * GeoJSON, in pixels of the image.
 */
export type Polygon = {
    type: "Polygon";
    coordinates: number[][][];
};
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type MultiPolygon = {
    type: "MultiPolygon";
    coordinates: number[][][][];
};
/**
 * Low-res logits: base64 of little-endian float16.
 */
export type Logits = {
    size: [number, number];
    data: string;
};
/**
 * Whom the service takes a client for.
 */
export type Identity = {
    /**
     * Whose images, files and jobs it reaches.
     */
    tenant: string;
    /**
     * "annotator", "batch", "operator" or "metrics".
     */
    role: string;
    /**
     * Of the key, or the subject of the token.
     */
    name: string;
    /**
     * Whether the service answers requests without a key at all.
     */
    asks_for_keys: boolean;
    /**
     * When a login ends, in seconds since 1970; null where it is none.
     */
    expires_at: number | null;
};
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type UsageAmounts = {
    /**
     * Images, frames, slices and tiles that were encoded.
     */
    encoded_images: number;
    encode_seconds: number;
    /**
     * Prompts that were answered, those of jobs too.
     */
    clicks: number;
    automatic_images: number;
    similar_images: number;
    semantic_images: number;
    instances_images: number;
    /**
     * Time of workers.
     */
    job_seconds: number;
};
/**
 * In UTC.
 */
export type UsageDay = UsageAmounts & {
    day: string;
    stored_bytes: number | null;
};
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type TenantUsage = {
    tenant: string;
    total: UsageAmounts;
    days: UsageDay[];
};
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type Usage = {
    first_day: string;
    last_day: string;
    tenants: TenantUsage[];
};
/**
 * One object.
 */
export type Prompt = {
    points?: Point[] | undefined;
    /**
     * 1: on the object, 0: not on it; all 1 if left out.
     */
    labels?: (0 | 1)[] | undefined;
    box?: Box | null | undefined;
    /**
     * A mask to refine.
     */
    mask?: Rle | null | undefined;
    /**
     * Low-res logits to refine.
     */
    logits?: Logits | null | undefined;
    /**
     * An earlier mask to refine.
     */
    mask_id?: string | null | undefined;
};
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type SegmentRequest = {
    image_id: string;
    prompts: Prompt[];
    /**
     * The service's default model if left out.
     */
    model?: string | undefined;
    format?: "polygon" | "rle" | "png" | "logits" | undefined;
    select?: "all" | "best" | "first" | undefined;
    multimask?: boolean | null | undefined;
    raw?: boolean | undefined;
    /**
     * Of polygons, in pixels.
     */
    tolerance?: number | undefined;
};
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type Mask = {
    /**
     * In the format of the request: Rle, Polygon or MultiPolygon, Logits, or base64 of a PNG.
     */
    mask: any;
    /**
     * Predicted IoU.
     */
    score: number;
    box: Box;
    /**
     * Pixels.
     */
    area: number;
    removed_parts: number;
    filled_holes: number;
    mask_id: string | null;
};
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type SegmentAnswer = {
    image_id: string;
    model: string;
    width: number;
    height: number;
    /**
     * One for each prompt, in order.
     */
    results: {
        masks: Mask[];
    }[];
    hints?: string[] | undefined;
};
/**
 * How the objects of a whole image are
 * answered: png, tiff, npy and overlay are files.
 */
export type ResultFormat = "png" | "tiff" | "npy" | "overlay" | "coco" | "rle" | "polygon";
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type FoundObject = {
    /**
     * In the format of the request.
     */
    mask: Rle | Polygon | MultiPolygon;
    box: Box;
    /**
     * Pixels.
     */
    area: number;
    /**
     * How good the model thinks the object is, 0 to 1.
     */
    score: number | null;
    /**
     * Name of its class, if it has one.
     */
    class: string | null;
    /**
     * As the model answered it, if it answers boxes.
     */
    model_box?: Box | undefined;
};
/**
 * The objects of a whole image. The n-th, from 1, has the value n in label maps.
 */
export type Objects = {
    image_id: string;
    model: string;
    width: number;
    height: number;
    /**
     * At which the model saw the image.
     */
    scale?: {
        scale: number;
        object_size: number | null;
        reason: string;
    } | undefined;
    objects: FoundObject[];
    hints?: string[] | undefined;
};
/**
 * likeness: to the examples, up to 1.
 */
export type SimilarObject = FoundObject & {
    likeness: number;
    example: boolean;
};
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type SimilarObjects = Omit<Objects, "objects"> & {
    objects: SimilarObject[];
};
/**
 * value: in class maps.
 */
export type ClassArea = {
    value: number;
    class: string;
    area: number;
    fraction: number;
};
/**
 * An object for each class that occurs.
 */
export type ClassObjects = Objects & {
    classes: ClassArea[];
};
/**
 * A COCO data set.
 */
export type Coco = {
    images: {
        id: number;
        file_name: string;
        width: number;
        height: number;
    }[];
    categories: {
        id: number;
        name: string;
    }[];
    annotations: CocoAnnotation[];
};
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type CocoAnnotation = {
    id: number;
    image_id: number;
    category_id: number;
    segmentation: Rle;
    /**
     * x, y, width, height.
     */
    bbox: Box;
    area: number;
    iscrowd: 0;
    score?: number | undefined;
};
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type Image = {
    image_id: string;
    width: number;
    height: number;
    page: number;
    pages: number;
    /**
     * Edge of the tiles in pixels, and how many levels there are.
     */
    tiles: {
        size: number;
        levels: number;
    };
    hints: string[];
};
/**
 * A video, a stack, a volume or a zip.
 */
export type StoredFile = {
    file_id: string;
    kind: string;
    format: string;
    frames: number;
    width: number;
    height: number;
    fps: number | null;
    spacing: number[] | null;
    contents: any[];
};
/**
 * Objects of a label volume, on each slice where there are any.
 */
export type Labels = {
    /**
     * Along which slices are numbered.
     */
    axis: number;
    /**
     * Of a slice, in pixels.
     */
    width: number;
    height: number;
    slices: {
        slice: number;
        objects: {
            object_id: number;
            name: string | null;
            mask: Rle;
            area: number;
            box: Box;
        }[];
    }[];
};
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type Model = Record<string, any> & {
    name: string;
    kind: string;
    default: boolean;
};
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type Job = {
    job_id: string;
    kind: "batch" | "video" | "volume" | "tracking";
    model: string;
    state: "queued" | "running" | "succeeded" | "failed" | "cancelled";
    progress: {
        done: number;
        total: number | null;
        failed: number;
        rate_per_s: number | null;
        eta_s: number | null;
    };
    object_ends: {
        count: number;
        latest: any[];
    };
    attempts: number;
    error: {
        type: string;
        detail: string;
        remedy?: string | null;
        field?: string | null;
    } | null;
    created_at: string;
    started_at: string | null;
    ended_at: string | null;
};
/**
 * Why an image of a batch failed.
 */
export type ItemError = {
    type: string;
    detail: string;
    remedy?: string;
    field?: string;
};
/**
 * The result of an image of a batch. What else it has is what the operation answers.
 */
export type BatchLine = {
    /**
     * Position in the batch, from 0.
     */
    index: number;
    /**
     * null where the picture could not be read.
     */
    image_id: string | null;
    name?: string | undefined;
    /**
     * The image failed; nothing below is there then.
     */
    error?: ItemError | undefined;
    model?: string | undefined;
    width?: number | undefined;
    height?: number | undefined;
    /**
     * Of automatic, similar, instances and semantic.
     */
    objects?: FoundObject[] | undefined;
    /**
     * Of segment.
     */
    results?: {
        masks: Omit<Mask, "mask_id">[];
    }[] | undefined;
    /**
     * Of semantic.
     */
    classes?: ClassArea[] | undefined;
    hints?: string[] | undefined;
};
/**
 * An object on a frame or slice.
 */
export type FollowedObject = {
    object_id: number;
    mask: Rle;
    box: Box;
    /**
     * Pixels.
     */
    area: number;
    /**
     * Predicted IoU, if the model predicts one.
     */
    score: number | null;
    /**
     * The object that it came from by division, of tracking.
     */
    parent?: number | null | undefined;
};
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type SeenObjects = {
    width: number;
    height: number;
    /**
     * At which the model saw it.
     */
    scale?: number | undefined;
    objects: FollowedObject[];
    /**
     * Objects that are not there.
     */
    missing?: {
        object_id: number;
        reason: string;
    }[] | undefined;
};
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type FrameEnd = {
    object_id: number;
    frame: number;
    last_frame: number | null;
    reason: string;
};
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type SliceEnd = {
    object_id: number;
    slice: number;
    last_slice: number | null;
    reason: string;
};
/**
 * A frame of a video or of tracking.
 */
export type FrameLine = SeenObjects & {
    frame: number;
    ends?: FrameEnd[];
};
/**
 * A slice of a volume.
 */
export type SliceLine = SeenObjects & {
    slice: number;
    ends?: SliceEnd[];
};
/**
 * A result of a job: `"frame" in line` says which it is.
 */
export type ResultLine = BatchLine | FrameLine | SliceLine;
/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 */
export type JobEvent = {
    /**
     * To go on after.
     */
    id: string;
    /**
     * "progress", or "end" for the last one.
     */
    event: string;
    job: Job;
};
/**
 * F: a ResultFormat.
 */
export type WholeImageRequest<F extends string> = {
    image_id: string;
    model?: string;
    format?: F;
    [field: string]: any;
};
/**
 * What a format answers: O, C or a file.
 */
export type InFormat<F extends string, O = Objects, C = Coco> = F extends "rle" | "polygon" ? O : F extends "coco" ? C : Blob;
