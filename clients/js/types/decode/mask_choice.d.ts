/**
 * Return the masks to answer with, of those that were decoded for a prompt.
 * @param {DecodedMask[]} masks
 * @param {"sam" | "sam2"} kind
 * @param {"best" | "all" | "first"} select
 */
export function chooseMasks(masks: DecodedMask[], kind: "sam" | "sam2", select: "best" | "all" | "first"): DecodedMask[];
/** One mask of the decoder, and how good an answer to the prompt it is. */
export class DecodedMask {
    /**
     * @param {Float32Array} logits Low-res.
     * @param {number} score Predicted IoU.
     * @param {number} token The mask token that it came from.
     * @param {LogitsGeometry} geometry
     * @param {Decoder} decoder
     * @param {Marks | null} marks Of the prompt; null leaves the mask as it is, and its value is the score.
     */
    constructor(logits: Float32Array, score: number, token: number, geometry: LogitsGeometry, decoder: Decoder, marks: Marks | null);
    logits: Float32Array<ArrayBufferLike>;
    score: number;
    token: number;
    _geometry: import("./geometry.js").LogitsGeometry;
    _decoder: import("./geometry.js").Decoder;
    _marks: import("./prompt_encoding.js").Marks | null;
    /** @type {import("./clean.js").CleanedLogits | null} */
    _cleaned: import("./clean.js").CleanedLogits | null;
    get cleaned(): import("./clean.js").CleanedLogits;
    /** Whether it has pixels, and is not the whole image. */
    get isUsable(): boolean;
    /** Its score, and for SAM what else counts. Masks for one prompt can be compared by it. */
    get value(): number;
    /** Whether a candidate of this score may be the better answer. @param {number} bestScore */
    mayBeBeaten(bestScore: number): boolean;
    /** Logits above a level, of those that show the image. @param {number} level */
    _count(level: number): number;
    _stability(): number;
    /** The IoU of the cleaned mask's box and another one. @param {[number, number, number, number]} box */
    _boxIou(box: [number, number, number, number]): number;
}
/**
 * Which of the decoder's masks are answered. The rules and numbers are those of `segserve/decode/mask_choice.py`.
 */
export type Decoder = import("./geometry.js").Decoder;
/**
 * Which of the decoder's masks are answered. The rules and numbers are those of `segserve/decode/mask_choice.py`.
 */
export type LogitsGeometry = import("./geometry.js").LogitsGeometry;
/**
 * Which of the decoder's masks are answered. The rules and numbers are those of `segserve/decode/mask_choice.py`.
 */
export type Marks = import("./prompt_encoding.js").Marks;
