/**
 * One prompt through the mask decoder: encode the prompt, run the graph, choose masks, clean and upscale them.
 *
 * @typedef {import("./geometry.js").Decoder} Decoder
 * @typedef {import("./geometry.js").Size} Size
 * @typedef {import("./prompt_encoding.js").Prompt} Prompt
 *
 * @typedef {object} Options
 * @property {boolean | null} [multimask]
 * @property {"best" | "all" | "first"} [select]
 * @property {boolean} [raw]
 *
 * @typedef {object} Candidate
 * @property {import("../masks/runs.js").Runs} runs
 * @property {Float32Array} logits Low-res, to refine the mask by.
 * @property {number} score
 * @property {number} removedParts
 * @property {number} filledHoles
 *
 * @typedef {(coords: Float32Array, labels: Float32Array, tokens: number[]) =>
 *   Promise<{logits: Float32Array[], scores: Float32Array}>} Decode Runs the graph.
 */

import { logitsGeometry } from "./geometry.js";
import { chooseMasks, DecodedMask } from "./mask_choice.js";
import { CANDIDATE_TOKENS, encodeTokens, findMarks, selectMaskTokens, SINGLE_TOKEN } from "./prompt_encoding.js";
import { upscaleMask } from "./upscale.js";

const SAM2_LOGIT_LIMIT = 32;

/**
 * Return the masks for one prompt.
 * @param {Decode} decode
 * @param {Decoder} decoder
 * @param {Size} size Of the image.
 * @param {Prompt} prompt
 * @param {Options} [options]
 * @returns {Promise<Candidate[]>}
 */
export async function decodePrompt(decode, decoder, size, prompt, { multimask = null, select = "best", raw = false } = {}) {
  const geometry = logitsGeometry(decoder, size);
  const marks = raw ? null : findMarks(prompt, decoder, size);
  const { coords, labels } = encodeTokens(prompt, decoder, size);
  const run = async (/** @type {number[]} */ tokens) => {
    const { logits, scores } = await decode(coords, labels, tokens);
    const masks = tokens.map((token, i) => new DecodedMask(logits[i], scores[token], token, geometry, decoder, marks));
    return { masks, scores };
  };
  const { masks, scores } = await run(selectMaskTokens(prompt, decoder.kind, multimask, select));
  const needsMore =
    multimask === null &&
    select === "best" &&
    masks.length === 1 &&
    masks[0].token === SINGLE_TOKEN &&
    [SINGLE_TOKEN, ...CANDIDATE_TOKENS].every((token) => decoder.masks.includes(token)) &&
    masks[0].mayBeBeaten(Math.max(...CANDIDATE_TOKENS.map((token) => scores[token])));
  if (needsMore) masks.push(...(await run(CANDIDATE_TOKENS)).masks);
  return chooseMasks(masks, decoder.kind, select).map((mask) => finishMask(mask, geometry, decoder, raw));
}

/**
 * @param {DecodedMask} mask
 * @param {import("./geometry.js").LogitsGeometry} geometry
 * @param {Decoder} decoder
 * @param {boolean} raw The score is the model's own, which may be a little beyond 0 and 1.
 * @returns {Candidate}
 */
function finishMask(mask, geometry, decoder, raw) {
  const { logits, removedParts, filledHoles } = mask.cleaned;
  const isSam2 = decoder.kind === "sam2";
  return {
    runs: upscaleMask(logits, geometry, decoder.mask_threshold),
    logits: isSam2 ? logits.map((value) => Math.min(SAM2_LOGIT_LIMIT, Math.max(-SAM2_LOGIT_LIMIT, value))) : logits,
    score: raw ? mask.score : Math.min(1, Math.max(0, mask.score)),
    removedParts,
    filledHoles,
  };
}
