/**
 * SAM pads points without a box; SAM 2 always pads, and puts the box first.
 * @param {Prompt} prompt
 * @param {Decoder} decoder
 * @param {Size} size
 */
export function encodeTokens({ points, labels, box }: Prompt, decoder: Decoder, size: Size): {
    coords: Float32Array<ArrayBuffer>;
    labels: Float32Array<ArrayBuffer>;
};
/**
 * @param {Prompt} prompt
 * @param {Decoder} decoder
 * @param {Size} size
 * @returns {Marks}
 */
export function findMarks({ points, labels, box, prior }: Prompt, decoder: Decoder, size: Size): Marks;
/**
 * Return whether three candidates are needed. null means three for a single positive point with nothing else.
 * @param {Prompt} prompt
 * @param {boolean | null} multimask
 */
export function needsCandidates({ labels, box, prior }: Prompt, multimask: boolean | null): boolean;
/**
 * Return the mask tokens that the decoder must compute, of its four.
 * @param {Prompt} prompt
 * @param {"sam" | "sam2"} kind
 * @param {boolean | null} multimask
 * @param {"best" | "all" | "first"} select
 */
export function selectMaskTokens(prompt: Prompt, kind: "sam" | "sam2", multimask: boolean | null, select: "best" | "all" | "first"): number[];
export const SINGLE_TOKEN: 0;
export const CANDIDATE_TOKENS: number[];
/**
 * Prompts as the decoder reads them. Order and padding are those of the model's own predictor.
 */
export type Decoder = import("./geometry.js").Decoder;
/**
 * Prompts as the decoder reads them. Order and padding are those of the model's own predictor.
 */
export type Size = import("./geometry.js").Size;
/**
 * Prompts as the decoder reads them. Order and padding are those of the model's own predictor.
 */
export type Prompt = {
    /**
     * x, y in pixels of the image.
     */
    points: [number, number][];
    /**
     * 1: on the object, 0: not on it.
     */
    labels: number[];
    box: [number, number, number, number] | null;
    /**
     * Low-res logits of an earlier mask.
     */
    prior: Float32Array | null;
};
/**
 * What a prompt says about the object, in pixels of the low-res logits.
 */
export type Marks = {
    positive: [number, number][];
    negative: [number, number][];
    box: [number, number, number, number] | null;
    /**
     * An earlier mask.
     */
    prior: Uint8Array | null;
};
