/**
 * The parts of a mask: pieces that touch along an edge (4-connected), holes, specks.
 *
 * @typedef {import("./runs.js").Runs} Runs
 *
 * @typedef {object} Segments The runs of a mask cut at the ends of columns, from left to right and top to bottom.
 * @property {Uint32Array} x Column of each.
 * @property {Uint32Array} y0
 * @property {Uint32Array} y1 Exclusive.
 * @property {number} count
 */

import { area, boundingBox, forEachSegment, invert, RunBuilder, subtract, unionAll } from "./runs.js";

/**
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @returns {Segments}
 */
export function cutAtColumns(runs, height) {
  const box = boundingBox(runs, height);
  let count = 0;
  forEachSegment(runs, height, box, () => count++);
  const segments = { x: new Uint32Array(count), y0: new Uint32Array(count), y1: new Uint32Array(count), count };
  let i = 0;
  forEachSegment(runs, height, box, (x, y0, y1) => {
    [segments.x[i], segments.y0[i], segments.y1[i]] = [x, y0, y1];
    i++;
  });
  return segments;
}

/**
 * Call a function for each two segments of neighbouring columns that share an edge.
 * @param {Segments} segments
 * @param {(left: number, right: number) => void} visit Indices of the two.
 */
export function forEachNeighbour({ x, y0, y1, count }, visit) {
  for (let left = 0, right = 0; right < count; ) {
    if (x[left] + 1 < x[right]) left++;
    else if (x[left] + 1 > x[right]) right++;
    else {
      if (y0[left] < y1[right] && y0[right] < y1[left]) visit(left, right);
      if (y1[left] < y1[right]) left++;
      else right++;
    }
  }
}

/**
 * Return the part of each segment, from 0, and the number of parts.
 * @param {Segments} segments
 */
export function labelParts(segments) {
  const parents = Uint32Array.from({ length: segments.count }, (_, i) => i);
  /** @param {number} i */
  const root = (i) => {
    while (parents[i] !== i) i = parents[i] = parents[parents[i]];
    return i;
  };
  forEachNeighbour(segments, (left, right) => {
    const [a, b] = [root(left), root(right)];
    parents[Math.max(a, b)] = Math.min(a, b);
  });
  const labels = new Uint32Array(segments.count);
  let count = 0;
  for (let i = 0; i < segments.count; i++) labels[i] = root(i) === i ? count++ : labels[root(i)];
  return { labels, count };
}

/**
 * Return the parts of a mask, each a mask, the largest first.
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @returns {Runs[]}
 */
export function split(runs, height) {
  const segments = cutAtColumns(runs, height);
  const { labels, count } = labelParts(segments);
  const builders = Array.from({ length: count }, () => new RunBuilder(height));
  for (let i = 0; i < segments.count; i++) builders[labels[i]].add(segments.x[i], segments.y0[i], segments.y1[i]);
  return builders.map((builder) => builder.finish()).sort((a, b) => area(b) - area(a));
}

/**
 * Return the mask without its small parts; the largest stays.
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @param {number} minArea Pixels.
 */
export function removeSpecks(runs, height, minArea) {
  return unionAll(split(runs, height).filter((part, i) => i === 0 || area(part) >= minArea));
}

/**
 * Return the mask with its holes filled. A hole is what the mask surrounds.
 * @param {Runs} runs
 * @param {number} width Of the image.
 * @param {number} height Of the image.
 * @param {number} [maxArea] Pixels; larger holes stay.
 */
export function fillHoles(runs, width, height, maxArea = Infinity) {
  if (!runs.length) return runs;
  const [x0, y0, x1, y1] = boundingBox(runs, height);
  const outside = split(subtract(invert(runs, width, height), outsideOf([x0, y0, x1, y1], width, height)), height);
  const holes = outside.filter((part) => {
    const box = boundingBox(part, height);
    // The mask's own corners are 4-connected to the outside only by edges: a part at the box's border is no hole.
    return box[0] > x0 && box[1] > y0 && box[2] < x1 && box[3] < y1 && area(part) <= maxArea;
  });
  return unionAll([runs, ...holes]);
}

/** Pixels outside of a box. @param {number[]} box @param {number} width @param {number} height */
function outsideOf([x0, y0, x1, y1], width, height) {
  const builder = new RunBuilder(height);
  for (let x = x0; x < x1; x++) builder.add(x, y0, y1);
  return invert(builder.finish(), width, height);
}
