/**
 * Cleans a mask as the service does: removes the parts that nothing marks, and fills small holes. It works on low-res
 * logits. The rules are those of `segserve/masks/clean.py`.
 *
 * @typedef {import("./prompt_encoding.js").Marks} Marks
 * @typedef {{logits: Float32Array, removedParts: number, filledHoles: number}} CleanedLogits
 */

import { labelBitmap } from "./label.js";

const MAX_MARK_DISTANCE = 2;
const MIN_PRIOR_SHARE = 0.5;
const MAX_HOLE_SHARE = 0.02;

const floats = new Float32Array(1);
const words = new Int32Array(floats.buffer);

/**
 * @param {Float32Array} logits Square.
 * @param {number} threshold
 * @param {Marks} marks
 * @returns {CleanedLogits}
 */
export function cleanLogits(logits, threshold, marks) {
  const edge = Math.sqrt(logits.length);
  const box = boundingBox(logits, edge, threshold);
  const [x0, y0, x1, y1] = box;
  if (x0 === x1) return { logits, removedParts: 0, filledHoles: 0 };
  const width = x1 - x0;
  const inside = new Uint8Array(width * (y1 - y0));
  for (let i = 0; i < inside.length; i++) inside[i] = Number(logits[imageIndex(i, box, edge)] > threshold);
  const { labels, count } = labelBitmap(inside, width, false);
  const kept = count > 1 ? chooseParts(labels, count, marks, box, edge) : [false, true];
  const object = Uint8Array.from(labels, (label) => Number(kept[label]));
  const holes = findSmallHoles(object, width, marks.negative.map(([x, y]) => [x - x0, y - y0]));
  const removedParts = count - kept.filter(Boolean).length;
  if (!removedParts && !holes.count) return { logits, removedParts, filledHoles: 0 };
  const cleaned = logits.slice();
  for (let i = 0; i < inside.length; i++) {
    const isHole = holes.mask[i] === 1;
    if (!isHole && !(inside[i] && !object[i])) continue;
    const at = imageIndex(i, box, edge);
    // One step beyond the mirrored value: a hole's logit may be the threshold itself.
    cleaned[at] = nextAfter(2 * threshold - logits[at], isHole);
  }
  return { logits: cleaned, removedParts, filledHoles: holes.count };
}

/**
 * The box around the values above a threshold: x0, y0, x1, y1; zeros if there are none.
 * @param {Float32Array} logits
 * @param {number} edge
 * @param {number} threshold
 * @returns {[number, number, number, number]}
 */
export function boundingBox(logits, edge, threshold) {
  let [x0, y0, x1, y1] = [edge, edge, 0, 0];
  for (let y = 0, i = 0; y < edge; y++) {
    for (let x = 0; x < edge; x++, i++) {
      if (!(logits[i] > threshold)) continue;
      if (x < x0) x0 = x;
      if (x >= x1) x1 = x + 1;
      if (y < y0) y0 = y;
      y1 = y + 1;
    }
  }
  return x1 ? [x0, y0, x1, y1] : [0, 0, 0, 0];
}

/** Index in the logits of a pixel of their box. @param {number} i @param {number[]} box @param {number} edge */
const imageIndex = (i, [x0, y0, x1], edge) => (y0 + Math.floor(i / (x1 - x0))) * edge + x0 + (i % (x1 - x0));

/** The next float32, up or down. @param {number} value @param {boolean} up */
function nextAfter(value, up) {
  floats[0] = value;
  if (floats[0] === 0) words[0] = up ? 1 : 0x80000001 | 0;
  else words[0] += floats[0] > 0 === up ? 1 : -1;
  return floats[0];
}

/**
 * Return for each part whether it is kept.
 * @param {Int32Array} labels
 * @param {number} count
 * @param {Marks} marks
 * @param {[number, number, number, number]} window
 * @param {number} edge
 */
function chooseParts(labels, count, marks, window, edge) {
  const [x0, y0, x1, y1] = window;
  const [width, height] = [x1 - x0, y1 - y0];
  const kept = new Array(count + 1).fill(false);
  const areas = countParts(labels, count, () => true);
  for (const [x, y] of marks.positive) kept[findMarkedPart(labels, width, height, x - x0, y - y0)] = true;
  let overlaps = areas;
  const { prior, box } = marks;
  if (prior) {
    overlaps = countParts(labels, count, (i) => prior[imageIndex(i, window, edge)] === 1);
    overlaps.forEach((overlap, part) => (kept[part] ||= overlap >= MIN_PRIOR_SHARE * areas[part]));
  } else if (box) {
    const [left, top] = [Math.max(0, Math.floor(box[0] - x0)), Math.max(0, Math.floor(box[1] - y0))];
    const [right, bottom] = [Math.max(0, Math.ceil(box[2] - x0)), Math.max(0, Math.ceil(box[3] - y0))];
    overlaps = countParts(labels, count, (i) => {
      const [x, y] = [i % width, Math.floor(i / width)];
      return x >= left && x < right && y >= top && y < bottom;
    });
  }
  kept[0] = false;
  if (!kept.some(Boolean)) {
    const chosen = overlaps.some((overlap, part) => part && overlap) ? overlaps : areas;
    const parts = chosen.slice(1);
    kept[1 + parts.indexOf(Math.max(...parts))] = true;
  }
  return kept;
}

/** The pixels of each part that a function counts. @param {Int32Array} labels @param {number} count @param {(i: number) => boolean} counts */
function countParts(labels, count, counts) {
  const areas = new Array(count + 1).fill(0);
  for (let i = 0; i < labels.length; i++) if (counts(i)) areas[labels[i]]++;
  return areas;
}

/**
 * The part at a point, or the nearest within MAX_MARK_DISTANCE; 0 if there is none.
 * @param {Int32Array} labels @param {number} width @param {number} height @param {number} x @param {number} y
 */
function findMarkedPart(labels, width, height, x, y) {
  const [column, row] = [Math.floor(x), Math.floor(y)];
  if (column >= 0 && column < width && row >= 0 && row < height && labels[row * width + column]) {
    return labels[row * width + column];
  }
  let [best, nearest] = [0, Infinity];
  for (let r = Math.max(0, row - MAX_MARK_DISTANCE); r < Math.min(height, row + MAX_MARK_DISTANCE + 1); r++) {
    for (let c = Math.max(0, column - MAX_MARK_DISTANCE); c < Math.min(width, column + MAX_MARK_DISTANCE + 1); c++) {
      const distance = Math.hypot(r + 0.5 - y, c + 0.5 - x);
      if (labels[r * width + c] && distance < nearest) [best, nearest] = [labels[r * width + c], distance];
    }
  }
  return best;
}

/**
 * Holes of at most MAX_HOLE_SHARE of the mask's area. Negative points keep a hole.
 * @param {Uint8Array} mask
 * @param {number} width
 * @param {number[][]} negative
 */
function findSmallHoles(mask, width, negative) {
  const height = mask.length / width;
  const stride = width + 2; // a border of background joins what is outside
  const background = new Uint8Array(stride * (height + 2)).fill(1);
  let area = 0;
  for (let i = 0; i < mask.length; i++) {
    if (!mask[i]) continue;
    area++;
    background[(Math.floor(i / width) + 1) * stride + (i % width) + 1] = 0;
  }
  const { labels, count } = labelBitmap(background, stride, true);
  if (count === 1) return { mask: new Uint8Array(mask.length), count: 0 };
  const areas = countParts(labels, count, () => true);
  const small = areas.map((pixels, part) => part > 0 && part !== labels[0] && pixels <= MAX_HOLE_SHARE * area);
  for (const [x, y] of negative) {
    const [column, row] = [Math.floor(x) + 1, Math.floor(y) + 1];
    if (row >= 0 && row < height + 2 && column >= 0 && column < stride) small[labels[row * stride + column]] = false;
  }
  const holes = Uint8Array.from(mask, (_, i) => Number(small[labels[(Math.floor(i / width) + 1) * stride + (i % width) + 1]]));
  return { mask: holes, count: small.filter(Boolean).length };
}
