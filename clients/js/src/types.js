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
 * @typedef {object} JobEvent
 * @property {string} id To go on after.
 * @property {string} event "progress", or "end" for the last one.
 * @property {Job} job
 */

export {};
