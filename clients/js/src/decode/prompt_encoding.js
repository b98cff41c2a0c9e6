/**
 * Prompts as the decoder reads them. Order and padding are those of the model's own predictor.
 *
 * @typedef {import("./geometry.js").Decoder} Decoder
 * @typedef {import("./geometry.js").Size} Size
 *
 * @typedef {object} Prompt
 * @property {[number, number][]} points x, y in pixels of the image.
 * @property {number[]} labels 1: on the object, 0: not on it.
 * @property {[number, number, number, number] | null} box
 * @property {Float32Array | null} prior Low-res logits of an earlier mask.
 *
 * @typedef {object} Marks What a prompt says about the object, in pixels of the low-res logits.
 * @property {[number, number][]} positive
 * @property {[number, number][]} negative
 * @property {[number, number, number, number] | null} box
 * @property {Uint8Array | null} prior An earlier mask.
 */

import { scalePoints } from "./geometry.js";

const PADDING_LABEL = -1;
const BOX_LABELS = [2, 3];
export const SINGLE_TOKEN = 0;
export const CANDIDATE_TOKENS = [1, 2, 3];

/**
 * SAM pads points without a box; SAM 2 always pads, and puts the box first.
 * @param {Prompt} prompt
 * @param {Decoder} decoder
 * @param {Size} size
 */
export function encodeTokens({ points, labels, box }, decoder, size) {
  const isSam2 = decoder.kind === "sam2";
  const corners = boxCorners(box);
  const cornerLabels = box ? BOX_LABELS : [];
  const coords = scalePoints(isSam2 ? [...corners, ...points] : [...points, ...corners], decoder, size);
  const kinds = isSam2 ? [...cornerLabels, ...labels] : [...labels, ...cornerLabels];
  if (coords.length && (!box || isSam2)) {
    coords.push([0, 0]);
    kinds.push(PADDING_LABEL);
  }
  return { coords: Float32Array.from(coords.flat()), labels: Float32Array.from(kinds) };
}

/**
 * @param {Prompt} prompt
 * @param {Decoder} decoder
 * @param {Size} size
 * @returns {Marks}
 */
export function findMarks({ points, labels, box, prior }, decoder, size) {
  const scale = Math.fround(decoder.low_res / decoder.input_size);
  const scaled = scalePoints(points, decoder, size).map(
    ([x, y]) => /** @type {[number, number]} */ ([Math.fround((x + 0.5) * scale), Math.fround((y + 0.5) * scale)]),
  );
  const corners = scalePoints(boxCorners(box), decoder, size).flat().map((value) => value * scale);
  return {
    positive: scaled.filter((_, i) => labels[i] === 1),
    negative: scaled.filter((_, i) => labels[i] === 0),
    box: box && /** @type {[number, number, number, number]} */ (corners),
    prior: prior && Uint8Array.from(prior, (value) => Number(value > decoder.mask_threshold)),
  };
}

/** @param {Prompt["box"]} box @returns {[number, number][]} */
const boxCorners = (box) => (box ? [[box[0], box[1]], [box[2], box[3]]] : []);

/**
 * Return whether three candidates are needed. null means three for a single positive point with nothing else.
 * @param {Prompt} prompt
 * @param {boolean | null} multimask
 */
export function needsCandidates({ labels, box, prior }, multimask) {
  return multimask ?? (!box && !prior && labels.length === 1 && labels[0] === 1);
}

/**
 * Return the mask tokens that the decoder must compute, of its four.
 * @param {Prompt} prompt
 * @param {"sam" | "sam2"} kind
 * @param {boolean | null} multimask
 * @param {"best" | "all" | "first"} select
 */
export function selectMaskTokens(prompt, kind, multimask, select) {
  if (select === "first") return CANDIDATE_TOKENS.slice(0, 1);
  if (needsCandidates(prompt, multimask)) return CANDIDATE_TOKENS;
  // If the single mask is unstable, SAM 2 answers with the best candidate instead, so it needs them too.
  return kind === "sam2" ? [SINGLE_TOKEN, ...CANDIDATE_TOKENS] : [SINGLE_TOKEN];
}
