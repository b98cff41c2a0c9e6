/**
 * Upscales low-res logits to the mask of the image (bilinear, in the steps of the model's family), only where the mask can
 * be. Its values are those of `segserve/masks/upscale.py`.
 *
 * @typedef {import("./geometry.js").LogitsGeometry} LogitsGeometry
 *
 * @typedef {object} Operator Resizes one axis: each output is a weighted sum of four inputs.
 * @property {Int32Array} index [out * 4]
 * @property {Float64Array} weight [out * 4]
 * @property {{start: number, stop: number, inputs: number[]}[]} groups Outputs that read the same inputs.
 */

import { RunBuilder } from "../masks/runs.js";
import { boundingBox } from "./clean.js";

/**
 * Return the runs of where the logits at the image's size exceed a threshold.
 * @param {Float32Array} logits
 * @param {LogitsGeometry} geometry
 * @param {number} threshold
 */
export function upscaleMask(logits, geometry, threshold) {
  const { low, square, valid, original } = geometry;
  const builder = new RunBuilder(original.height);
  const [x0, y0, x1, y1] = boundingBox(logits, low, threshold);
  if (x0 === x1) return builder.finish();
  const rows = resizeOperator(low, square, valid.height, original.height);
  const columns = resizeOperator(low, square, valid.width, original.width);
  const groups = rows.groups.filter(({ inputs }) => inputs.some((i) => i >= y0 && i < y1));
  // An output reads up to three rows.
  const top = Math.max(0, y0 - 2);
  const bottom = Math.min(low, y1 + 2);
  // A column of the image before its rows are resized.
  const line = new Float64Array(low).fill(-1);
  for (const { start, stop, inputs } of columns.groups) {
    if (!inputs.some((i) => i >= x0 && i < x1)) continue;
    for (let x = start; x < stop; x++) {
      fillLine(line, logits, low, columns, x, top, bottom, threshold);
      for (const group of groups) addRuns(builder, x, line, rows, group);
    }
  }
  return builder.finish();
}

/**
 * @param {Float64Array} line
 * @param {Float32Array} logits
 * @param {number} low
 * @param {Operator} columns
 * @param {number} x
 * @param {number} top
 * @param {number} bottom
 * @param {number} threshold
 */
function fillLine(line, logits, low, { index, weight }, x, top, bottom, threshold) {
  const at = 4 * x;
  const [a, b, c, d] = [index[at], index[at + 1], index[at + 2], index[at + 3]];
  const [wa, wb, wc, wd] = [weight[at], weight[at + 1], weight[at + 2], weight[at + 3]];
  for (let y = top; y < bottom; y++) {
    const row = y * low;
    line[y] = wa * logits[row + a] + wb * logits[row + b] + wc * logits[row + c] + wd * logits[row + d] - threshold;
  }
}

/**
 * A group whose inputs are all above the threshold is all ones, one whose inputs are none above it is all zeros.
 * @param {RunBuilder} builder
 * @param {number} x
 * @param {Float64Array} line
 * @param {Operator} rows
 * @param {{start: number, stop: number, inputs: number[]}} group
 */
function addRuns(builder, x, line, { index, weight }, { start, stop, inputs }) {
  let above = 0;
  for (const i of inputs) if (line[i] > 0) above++;
  if (above === 0) return;
  if (above === inputs.length) {
    builder.add(x, start, stop);
    return;
  }
  for (let y = start, at = 4 * start; y < stop; y++, at += 4) {
    const value =
      weight[at] * line[index[at]] +
      weight[at + 1] * line[index[at + 1]] +
      weight[at + 2] * line[index[at + 2]] +
      weight[at + 3] * line[index[at + 3]];
    if (value > 0) builder.add(x, y, y + 1);
  }
}

const MAX_OPERATORS = 32;
/** @type {Map<string, Operator>} */
const operators = new Map();

/**
 * The operator that resizes `low` values to `square`, and the first `valid` of those to `out`.
 * @param {number} low @param {number} square @param {number} valid @param {number} out
 * @returns {Operator}
 */
function resizeOperator(low, square, valid, out) {
  const key = `${low} ${square} ${valid} ${out}`;
  let operator = operators.get(key);
  if (!operator) {
    if (operators.size === MAX_OPERATORS) operators.delete(/** @type {string} */ (operators.keys().next().value));
    operators.set(key, (operator = makeOperator(findNeighbours(low, square), findNeighbours(valid, out), out)));
  }
  return operator;
}

/** @param {Neighbours} inner @param {Neighbours} outer @param {number} out @returns {Operator} */
function makeOperator(inner, outer, out) {
  const index = new Int32Array(4 * out);
  const weight = new Float64Array(4 * out);
  /** @type {Operator["groups"]} */
  const groups = [];
  let previous = "";
  for (let i = 0; i < out; i++) {
    for (let k = 0; k < 4; k++) {
      const between = outer.index[2 * i + (k >> 1)];
      index[4 * i + k] = inner.index[2 * between + (k & 1)];
      weight[4 * i + k] = outer.weight[2 * i + (k >> 1)] * inner.weight[2 * between + (k & 1)];
    }
    const inputs = [...new Set(index.subarray(4 * i, 4 * i + 4))];
    const key = inputs.join();
    if (key === previous) groups[groups.length - 1].stop = i + 1;
    else groups.push({ start: i, stop: i + 1, inputs });
    previous = key;
  }
  return { index, weight, groups };
}

/**
 * The two inputs of each output in bilinear resizing, and their weights: PyTorch's, which computes positions in float32.
 * @typedef {{index: Int32Array, weight: Float64Array}} Neighbours
 * @param {number} source @param {number} target
 * @returns {Neighbours}
 */
function findNeighbours(source, target) {
  const index = new Int32Array(2 * target);
  const weight = new Float64Array(2 * target);
  const scale = Math.fround(source / target);
  for (let i = 0; i < target; i++) {
    const position = Math.max(0, Math.fround(Math.fround(Math.fround(i + 0.5) * scale) - 0.5));
    const near = Math.min(Math.floor(position), source - 1);
    const far = Math.min(1, Math.max(0, position - near));
    index.set([near, Math.min(near + 1, source - 1)], 2 * i);
    weight.set([1 - far, far], 2 * i);
  }
  return { index, weight };
}
