/**
 * Shapes that a user draws, as runs: a pixel is of a shape if its centre is.
 *
 * @typedef {import("./runs.js").Runs} Runs
 * @typedef {{width: number, height: number}} Size Of the image, in pixels.
 */

import { RunBuilder, unionAll } from "./runs.js";

/**
 * The mask of a box.
 * @param {[number, number, number, number]} box x0, y0, x1, y1
 * @param {Size} size
 * @returns {Runs}
 */
export function fromBox([x0, y0, x1, y1], { width, height }) {
  const builder = new RunBuilder(height);
  const [top, bottom] = [firstPixel(y0), Math.min(height, firstPixel(y1))];
  const end = Math.min(width, firstPixel(x1));
  for (let x = firstPixel(x0); x < end; x++) builder.add(x, top, bottom);
  return builder.finish();
}

/**
 * The mask of a brush that was drawn along a line.
 * @param {[number, number][]} points x, y of the brush's centre; one point is a disc.
 * @param {number} radius Pixels.
 * @param {Size} size
 * @returns {Runs}
 */
export function fromStroke(points, radius, size) {
  const segments = points.length > 1 ? points.slice(1).map((point, i) => [points[i], point]) : points.map((point) => [point, point]);
  return unionAll(segments.map(([from, to]) => capsule(from, to, radius, size)));
}

/**
 * The pixels within a radius of a line between two points. In each column these are one interval.
 * @param {[number, number]} from
 * @param {[number, number]} to
 * @param {number} radius
 * @param {Size} size
 */
function capsule([ax, ay], [bx, by], radius, { width, height }) {
  const builder = new RunBuilder(height);
  const length = Math.hypot(bx - ax, by - ay);
  const end = Math.min(width, Math.floor(Math.max(ax, bx) + radius - 0.5) + 1);
  for (let x = firstPixel(Math.min(ax, bx) - radius); x < end; x++) {
    const centre = x + 0.5;
    const [top, bottom] = mergeIntervals([
      discInterval(centre, ax, ay, radius),
      discInterval(centre, bx, by, radius),
      bandInterval(centre, [ax, ay], [bx, by], length, radius),
    ]);
    // Its borders belong to it, unlike those of other shapes: a brush of half a pixel paints one.
    builder.add(x, firstPixel(top), Math.min(height, Math.floor(bottom - 0.5) + 1));
  }
  return builder.finish();
}

const NOTHING = [Infinity, -Infinity];

/** @param {number[][]} intervals */
const mergeIntervals = (intervals) => [Math.min(...intervals.map(([top]) => top)), Math.max(...intervals.map(([, bottom]) => bottom))];

/** @param {number} x @param {number} cx @param {number} cy @param {number} radius */
function discInterval(x, cx, cy, radius) {
  const half = radius ** 2 - (x - cx) ** 2;
  return half < 0 ? NOTHING : [cy - Math.sqrt(half), cy + Math.sqrt(half)];
}

/**
 * The y of a column that lie in the rectangle around a line, without its round ends.
 * @param {number} x
 * @param {number[]} a
 * @param {number[]} b
 * @param {number} length
 * @param {number} radius
 */
function bandInterval(x, [ax, ay], [bx, by], length, radius) {
  if (length === 0) return NOTHING;
  const [ux, uy] = [(bx - ax) / length, (by - ay) / length];
  // Along the line: 0 <= (x - ax) ux + (y - ay) uy <= length. Across it: |(x - ax) uy - (y - ay) ux| <= radius.
  const along = solve(uy, (x - ax) * ux, 0, length);
  const across = solve(-ux, (x - ax) * uy, -radius, radius);
  const [top, bottom] = [Math.max(along[0], across[0]) + ay, Math.min(along[1], across[1]) + ay];
  return top <= bottom ? [top, bottom] : NOTHING;
}

/** The interval of d with low <= factor * d + offset <= high. @param {number} factor @param {number} offset @param {number} low @param {number} high */
function solve(factor, offset, low, high) {
  if (Math.abs(factor) < 1e-12) return offset >= low && offset <= high ? [-Infinity, Infinity] : NOTHING;
  const ends = [(low - offset) / factor, (high - offset) / factor];
  return [Math.min(...ends), Math.max(...ends)];
}

/** The first pixel whose centre is not before a coordinate. @param {number} coordinate */
const firstPixel = (coordinate) => Math.max(0, Math.ceil(coordinate - 0.5));
