/**
 * The JSON of the service, as far as most programs need it. `/openapi.json` describes all of it.
 *
 * @typedef {[number, number]} Point x, y in pixels of the image; (0, 0) is its top left corner.
 * @typedef {[number, number, number, number]} Box x0, y0, x1, y1 in pixels of the image.
 *
 * @typedef {object} Rle A mask as COCO's compressed run lengths.
 * @property {[number, number]} size height, width
 * @property {string} counts
 *
 * @typedef {{type: "Polygon", coordinates: number[][][]}} Polygon GeoJSON, in pixels of the image.
 * @typedef {{type: "MultiPolygon", coordinates: number[][][][]}} MultiPolygon
 * @typedef {{size: [number, number], data: string}} Logits Low-res logits: base64 of little-endian float16.
 *
 * @typedef {object} Identity Whom the service takes a client for.
 * @property {string} tenant Whose images, files and jobs it reaches.
 * @property {string} role "annotator", "batch", "operator" or "metrics".
 * @property {string} name Of the key, or the subject of the token.
 * @property {boolean} asks_for_keys Whether the service answers requests without a key at all.
 * @property {number | null} expires_at When a login ends, in seconds since 1970; null where it is none.
 *
 * @typedef {object} UsageAmounts
 * @property {number} encoded_images Images, frames, slices and tiles that were encoded.
 * @property {number} encode_seconds
 * @property {number} clicks Prompts that were answered, those of jobs too.
 * @property {number} automatic_images
 * @property {number} similar_images
 * @property {number} semantic_images
 * @property {number} instances_images
 * @property {number} job_seconds Time of workers.
 *
 * @typedef {UsageAmounts & {day: string, stored_bytes: number | null}} UsageDay In UTC.
 * @typedef {{tenant: string, total: UsageAmounts, days: UsageDay[]}} TenantUsage
 * @typedef {{first_day: string, last_day: string, tenants: TenantUsage[]}} Usage
 *
 * @typedef {object} Prompt One object.
 * @property {Point[]} [points]
 * @property {(0 | 1)[]} [labels] 1: on the object, 0: not on it; all 1 if left out.
 * @property {Box | null} [box]
 * @property {Rle | null} [mask] A mask to refine.
 * @property {Logits | null} [logits] Low-res logits to refine.
 * @property {string | null} [mask_id] An earlier mask to refine.
 *
 * @typedef {object} SegmentRequest
 * @property {string} image_id
 * @property {Prompt[]} prompts
 * @property {string} [model] The service's default model if left out.
 * @property {"rle" | "polygon" | "png" | "logits"} [format]
 * @property {"best" | "all" | "first"} [select]
 * @property {boolean | null} [multimask]
 * @property {boolean} [raw]
 * @property {number} [tolerance] Of polygons, in pixels.
 *
 * @typedef {object} Mask
 * @property {any} mask In the format of the request: Rle, Polygon or MultiPolygon, Logits, or base64 of a PNG.
 * @property {number} score Predicted IoU.
 * @property {Box} box
 * @property {number} area Pixels.
 * @property {number} removed_parts
 * @property {number} filled_holes
 * @property {string | null} mask_id
 *
 * @typedef {object} SegmentAnswer
 * @property {string} image_id
 * @property {string} model
 * @property {number} width
 * @property {number} height
 * @property {{masks: Mask[]}[]} results One for each prompt, in order.
 * @property {string[]} [hints]
 *
 * @typedef {"png" | "tiff" | "npy" | "overlay" | "coco" | "rle" | "polygon"} ResultFormat How the objects of a whole image are
 *   answered: png, tiff, npy and overlay are files.
 *
 * @typedef {object} FoundObject
 * @property {Rle | Polygon | MultiPolygon} mask In the format of the request.
 * @property {Box} box
 * @property {number} area Pixels.
 * @property {number | null} score How good the model thinks the object is, 0 to 1.
 * @property {string | null} class Name of its class, if it has one.
 * @property {Box} [model_box] As the model answered it, if it answers boxes.
 *
 * @typedef {object} Objects The objects of a whole image. The n-th, from 1, has the value n in label maps.
 * @property {string} image_id
 * @property {string} model
 * @property {number} width
 * @property {number} height
 * @property {{scale: number, object_size: number | null, reason: string}} [scale] At which the model saw the image.
 * @property {FoundObject[]} objects
 * @property {string[]} [hints]
 *
 * @typedef {FoundObject & {likeness: number, example: boolean}} SimilarObject likeness: to the examples, up to 1.
 * @typedef {Omit<Objects, "objects"> & {objects: SimilarObject[]}} SimilarObjects
 *
 * @typedef {{value: number, class: string, area: number, fraction: number}} ClassArea value: in class maps.
 * @typedef {Objects & {classes: ClassArea[]}} ClassObjects An object for each class that occurs.
 *
 * @typedef {object} Coco A COCO data set.
 * @property {{id: number, file_name: string, width: number, height: number}[]} images
 * @property {{id: number, name: string}[]} categories
 * @property {CocoAnnotation[]} annotations
 *
 * @typedef {object} CocoAnnotation
 * @property {number} id
 * @property {number} image_id
 * @property {number} category_id
 * @property {Rle} segmentation
 * @property {Box} bbox x, y, width, height.
 * @property {number} area
 * @property {0} iscrowd
 * @property {number} [score]
 *
 * @typedef {object} Image
 * @property {string} image_id
 * @property {number} width
 * @property {number} height
 * @property {number} page
 * @property {number} pages
 * @property {{size: number, levels: number}} tiles Edge of the tiles in pixels, and how many levels there are.
 * @property {string[]} hints
 *
 * @typedef {object} StoredFile A video, a stack, a volume or a zip.
 * @property {string} file_id
 * @property {string} kind
 * @property {string} format
 * @property {number} frames
 * @property {number} width
 * @property {number} height
 * @property {number | null} fps
 * @property {number[] | null} spacing
 * @property {any[]} contents
 *
 * @typedef {object} Labels Objects of a label volume, on each slice where there are any.
 * @property {number} axis Along which slices are numbered.
 * @property {number} width Of a slice, in pixels.
 * @property {number} height
 * @property {{slice: number, objects: {object_id: number, name: string | null, mask: Rle, area: number, box: Box}[]}[]} slices
 *
 * @typedef {Record<string, any> & {name: string, kind: string, default: boolean}} Model
 *
 * @typedef {object} Job
 * @property {string} job_id
 * @property {"batch" | "video" | "volume" | "tracking"} kind
 * @property {string} model
 * @property {"queued" | "running" | "succeeded" | "failed" | "cancelled"} state
 * @property {{done: number, total: number | null, failed: number, rate_per_s: number | null, eta_s: number | null}} progress
 * @property {{count: number, latest: any[]}} object_ends
 * @property {number} attempts
 * @property {{type: string, detail: string, remedy?: string | null, field?: string | null} | null} error
 * @property {string} created_at
 * @property {string | null} started_at
 * @property {string | null} ended_at
 *
 * @typedef {{type: string, detail: string, remedy?: string, field?: string}} ItemError Why an image of a batch failed.
 *
 * @typedef {object} BatchLine The result of an image of a batch. What else it has is what the operation answers.
 * @property {number} index Position in the batch, from 0.
 * @property {string | null} image_id null where the picture could not be read.
 * @property {string} [name]
 * @property {ItemError} [error] The image failed; nothing below is there then.
 * @property {string} [model]
 * @property {number} [width]
 * @property {number} [height]
 * @property {FoundObject[]} [objects] Of automatic, similar, instances and semantic.
 * @property {{masks: Omit<Mask, "mask_id">[]}[]} [results] Of segment.
 * @property {ClassArea[]} [classes] Of semantic.
 * @property {string[]} [hints]
 *
 * @typedef {object} FollowedObject An object on a frame or slice.
 * @property {number} object_id
 * @property {Rle} mask
 * @property {Box} box
 * @property {number} area Pixels.
 * @property {number | null} score Predicted IoU, if the model predicts one.
 * @property {number | null} [parent] The object that it came from by division, of tracking.
 *
 * @typedef {object} SeenObjects
 * @property {number} width
 * @property {number} height
 * @property {number} [scale] At which the model saw it.
 * @property {FollowedObject[]} objects
 * @property {{object_id: number, reason: string}[]} [missing] Objects that are not there.
 *
 * @typedef {{object_id: number, frame: number, last_frame: number | null, reason: string}} FrameEnd
 * @typedef {{object_id: number, slice: number, last_slice: number | null, reason: string}} SliceEnd
 * @typedef {SeenObjects & {frame: number, ends?: FrameEnd[]}} FrameLine A frame of a video or of tracking.
 * @typedef {SeenObjects & {slice: number, ends?: SliceEnd[]}} SliceLine A slice of a volume.
 * @typedef {BatchLine | FrameLine | SliceLine} ResultLine A result of a job: `"frame" in line` says which it is.
 *
 * @typedef {object} JobEvent
 * @property {string} id To go on after.
 * @property {string} event "progress", or "end" for the last one.
 * @property {Job} job
 */

/**
 * F: a ResultFormat.
 *
 * @template {string} F
 * @typedef {{image_id: string, model?: string, format?: F, [field: string]: any}} WholeImageRequest
 */

/**
 * What a format answers: O, C or a file.
 *
 * @template {string} F
 * @template [O=Objects]
 * @template [C=Coco]
 * @typedef {F extends "rle" | "polygon" ? O : F extends "coco" ? C : Blob} InFormat
 */

export {};
