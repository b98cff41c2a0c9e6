/**
 * Which of the decoder's masks are answered. The rules and numbers are those of `segserve/decode/mask_choice.py`.
 *
 * @typedef {import("./geometry.js").Decoder} Decoder
 * @typedef {import("./geometry.js").LogitsGeometry} LogitsGeometry
 * @typedef {import("./prompt_encoding.js").Marks} Marks
 */

import { boundingBox, cleanLogits } from "./clean.js";
import { validLow } from "./geometry.js";
import { SINGLE_TOKEN } from "./prompt_encoding.js";

const STABILITY_DELTA = 0.05;
const MIN_STABILITY = 0.98;
const MAX_IMAGE_SHARE = 0.95;
const STABILITY_OFFSET = 1;
const STABILITY_WEIGHT = 0.25;
const BOX_WEIGHT = 0.5;
const SINGLE_BONUS = 0.15;
const MIN_BOX_IOU = 0.9;

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
  constructor(logits, score, token, geometry, decoder, marks) {
    this.logits = logits;
    this.score = score;
    this.token = token;
    this._geometry = geometry;
    this._decoder = decoder;
    this._marks = marks;
    /** @type {import("./clean.js").CleanedLogits | null} */
    this._cleaned = null;
  }

  get cleaned() {
    if (!this._marks) return { logits: this.logits, removedParts: 0, filledHoles: 0 };
    return (this._cleaned ??= cleanLogits(this.logits, this._decoder.mask_threshold, this._marks));
  }

  /** Whether it has pixels, and is not the whole image. */
  get isUsable() {
    if (!this._marks) return true;
    const { rows, columns } = validLow(this._geometry);
    const share = this._count(this._decoder.mask_threshold) / (rows * columns);
    return share > 0 && share <= MAX_IMAGE_SHARE;
  }

  /** Its score, and for SAM what else counts. Masks for one prompt can be compared by it. */
  get value() {
    const { _marks: marks, _decoder: decoder } = this;
    if (!marks || decoder.kind === "sam2") return this.score;
    let value = this.score + STABILITY_WEIGHT * this._stability();
    if (marks.box) value += BOX_WEIGHT * this._boxIou(marks.box);
    if (this.token === SINGLE_TOKEN && marks.positive.length + marks.negative.length) value += SINGLE_BONUS;
    return value;
  }

  /** Whether a candidate of this score may be the better answer. @param {number} bestScore */
  mayBeBeaten(bestScore) {
    const { _marks: marks } = this;
    if (!marks || marks.prior) return false; // what refines an earlier mask is the single mask
    if (marks.box) return this._boxIou(marks.box) < MIN_BOX_IOU;
    return !this.isUsable || bestScore + STABILITY_WEIGHT > this.value;
  }

  /** Logits above a level, of those that show the image. @param {number} level */
  _count(level) {
    const { rows, columns } = validLow(this._geometry);
    const { low } = this._geometry;
    let count = 0;
    for (let y = 0; y < rows; y++) for (let i = y * low; i < y * low + columns; i++) if (this.logits[i] > level) count++;
    return count;
  }

  _stability() {
    const outer = this._count(this._decoder.mask_threshold - STABILITY_OFFSET);
    return outer ? this._count(this._decoder.mask_threshold + STABILITY_OFFSET) / outer : 0;
  }

  /** The IoU of the cleaned mask's box and another one. @param {[number, number, number, number]} box */
  _boxIou(box) {
    return boxIou(boundingBox(this.cleaned.logits, this._geometry.low, this._decoder.mask_threshold), box);
  }
}

/**
 * Return the masks to answer with, of those that were decoded for a prompt.
 * @param {DecodedMask[]} masks
 * @param {"sam" | "sam2"} kind
 * @param {"best" | "all" | "first"} select
 */
export function chooseMasks(masks, kind, select) {
  if (kind === "sam2" && masks[0].token === SINGLE_TOKEN) {
    return [isStable(masks[0].logits) ? masks[0] : findBest(masks.slice(1))];
  }
  return select === "best" && masks.length > 1 ? [findBest(masks)] : masks;
}

/** The mask of the highest value, among the usable ones if there are any. @param {DecodedMask[]} masks */
function findBest(masks) {
  const usable = masks.filter((mask) => mask.isUsable);
  const values = (usable.length ? usable : masks).map((mask) => ({ mask, value: mask.value }));
  return values.reduce((best, other) => (other.value > best.value ? other : best)).mask;
}

/** @param {number[]} a @param {number[]} b */
function boxIou(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const areas = [a, b].reduce((sum, [x0, y0, x1, y1]) => sum + (x1 - x0) * (y1 - y0), 0);
  return (width * height) / (areas - width * height);
}

/** SAM 2's rule: the area hardly changes where the threshold is shifted. @param {Float32Array} logits */
function isStable(logits) {
  let [inner, outer] = [0, 0];
  for (const value of logits) {
    if (value > STABILITY_DELTA) inner++;
    if (value > -STABILITY_DELTA) outer++;
  }
  return outer === 0 || inner / outer >= MIN_STABILITY;
}
