/**
 * Draws masks for a viewport, at its scale. The cost follows the viewport and the runs in it, not the image.
 *
 * @typedef {import("./runs.js").Runs} Runs
 * @typedef {import("./runs.js").Box} Box
 *
 * @typedef {object} DrawnMask
 * @property {Runs} runs
 * @property {number} height Of the image that the runs are of.
 * @property {[number, number, number, number]} fill Red, green, blue, alpha, 0 to 255.
 * @property {[number, number, number, number]} [line] Of its outline, likewise; no outline if left out.
 * @property {number} [lineWidth] Pixels of the picture that is drawn.
 * @property {Box} [box] As `boundingBox` returns it, where it is known.
 *
 * @typedef {object} Viewport The part of the image to draw, in pixels of the image. It may reach beyond the image.
 * @property {number} x
 * @property {number} y
 * @property {number} width
 * @property {number} height
 *
 * @typedef {object} Picture Rows of RGBA, not premultiplied.
 * @property {Uint8ClampedArray<ArrayBuffer>} data
 * @property {number} width
 * @property {number} height
 */

import { boundingBox, firstAbove } from "./runs.js";

const DEFAULT_LINE_WIDTH = 2;

/**
 * Draw masks, the later ones over the earlier ones. A mask that is smaller than a pixel of the picture is one pixel.
 * @param {Iterable<DrawnMask>} masks
 * @param {Viewport} viewport
 * @param {number} scale Pixels of the picture for each pixel of the image.
 * @returns {Picture}
 */
export function drawMasks(masks, viewport, scale) {
  const width = Math.max(1, Math.round(viewport.width * scale));
  const height = Math.max(1, Math.round(viewport.height * scale));
  const data = new Uint8ClampedArray(4 * width * height);
  const target = { pixels: new Uint32Array(data.buffer), data, width, height };
  for (const mask of masks) drawMask(mask, viewport, scale, target);
  return { data, width, height };
}

/**
 * @typedef {{pixels: Uint32Array, data: Uint8ClampedArray, width: number, height: number}} Target
 * @typedef {number[]} Strips Where intervals of rows begin and end, in turn, ascending.
 */

/**
 * @param {DrawnMask} mask
 * @param {Viewport} viewport
 * @param {number} scale
 * @param {Target} target
 */
function drawMask(mask, viewport, scale, target) {
  const box = mask.box ?? boundingBox(mask.runs, mask.height);
  if (box[0] === box[2]) return;
  const lineWidth = mask.line ? Math.max(1, Math.round(mask.lineWidth ?? DEFAULT_LINE_WIDTH)) : 0;
  // The box in pixels of the picture, cut where neither it nor its outline can be seen.
  const left = Math.max(-lineWidth, Math.floor((box[0] - viewport.x) * scale));
  const right = Math.min(target.width + lineWidth, Math.ceil((box[2] - viewport.x) * scale));
  const top = Math.max(-lineWidth, Math.floor((box[1] - viewport.y) * scale));
  const bottom = Math.min(target.height + lineWidth, Math.ceil((box[3] - viewport.y) * scale));
  if (left >= right || top >= bottom) return;
  const columns = sampleColumns(mask, viewport, scale, [left, top, right, bottom]);
  if (columns.every((strips) => !strips.length)) {
    if (Math.min(box[2] - box[0], box[3] - box[1]) * scale < 1) drawDot(mask, left, top, target);
    return;
  }
  const fill = new Pen(target, mask.fill);
  const line = mask.line && new Pen(target, mask.line);
  for (let i = 0; i < columns.length; i++) {
    const x = left + i;
    if (x < 0 || x >= target.width || !columns[i].length) continue;
    if (!line) {
      paint(fill, x, columns[i]);
      continue;
    }
    const inner = shrink(columns, i, lineWidth);
    paint(fill, x, inner);
    paint(line, x, without(columns[i], inner));
  }
}

/**
 * Return the strips of each column of the picture: where the pixel of the image under a centre is of the mask.
 * @param {DrawnMask} mask
 * @param {Viewport} viewport
 * @param {number} scale
 * @param {Box} area In pixels of the picture.
 * @returns {Strips[]}
 */
function sampleColumns({ runs, height }, viewport, scale, [left, top, right, bottom]) {
  /** @type {Strips[]} */
  const columns = [];
  const y0 = Math.max(0, Math.floor(viewport.y + top / scale));
  const y1 = Math.min(height, Math.ceil(viewport.y + bottom / scale) + 1);
  // The first row of the picture whose centre lies on a row of the image, or after it.
  const toRow = (/** @type {number} */ y) => Math.ceil((y - viewport.y) * scale - 0.5);
  let index = 0;
  let previous = NaN;
  for (let column = left; column < right; column++) {
    const x = Math.floor(viewport.x + (column + 0.5) / scale);
    if (x === previous) {
      columns.push(columns[columns.length - 1]);
      continue;
    }
    previous = x;
    /** @type {Strips} */
    const strips = [];
    const [start, end] = [x * height + y0, x * height + y1];
    if (x >= 0) index = firstAbove(runs, start, index) & ~1;
    for (let i = index; x >= 0 && i < runs.length && runs[i] < end; i += 2) {
      const from = Math.max(top, toRow(Math.max(runs[i], start) - x * height));
      const to = Math.min(bottom, toRow(Math.min(runs[i + 1], end) - x * height));
      if (from >= to) continue;
      if (strips.length && strips[strips.length - 1] >= from) strips[strips.length - 1] = to;
      else strips.push(from, to);
    }
    columns.push(strips);
  }
  return columns;
}

/**
 * Return the part of a column that is further inside the mask than the width of a line.
 * @param {Strips[]} columns
 * @param {number} i
 * @param {number} lineWidth
 * @returns {Strips}
 */
function shrink(columns, i, lineWidth) {
  /** @type {Strips} */
  let inner = [];
  for (let k = 0; k < columns[i].length; k += 2) {
    const [from, to] = [columns[i][k] + lineWidth, columns[i][k + 1] - lineWidth];
    if (from < to) inner.push(from, to);
  }
  for (let distance = 1; distance <= lineWidth && inner.length; distance++) {
    inner = intersect(inner, columns[i - distance] ?? []);
    inner = intersect(inner, columns[i + distance] ?? []);
  }
  return inner;
}

/** @param {Strips} a @param {Strips} b @returns {Strips} */
function intersect(a, b) {
  /** @type {Strips} */
  const both = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const [from, to] = [Math.max(a[i], b[j]), Math.min(a[i + 1], b[j + 1])];
    if (from < to) both.push(from, to);
    if (a[i + 1] < b[j + 1]) i += 2;
    else j += 2;
  }
  return both;
}

/** The parts of strips that are not of others, which lie within them. @param {Strips} strips @param {Strips} inner @returns {Strips} */
function without(strips, inner) {
  /** @type {Strips} */
  const rest = [];
  let j = 0;
  for (let i = 0; i < strips.length; i += 2) {
    let from = strips[i];
    for (; j < inner.length && inner[j] < strips[i + 1]; j += 2) {
      if (from < inner[j]) rest.push(from, inner[j]);
      from = inner[j + 1];
    }
    if (from < strips[i + 1]) rest.push(from, strips[i + 1]);
  }
  return rest;
}

/** @param {Pen} pen @param {number} x @param {Strips} strips */
function paint(pen, x, strips) {
  for (let i = 0; i < strips.length; i += 2) pen.drawStrip(x, strips[i], strips[i + 1]);
}

/** @param {DrawnMask} mask @param {number} x @param {number} y @param {Target} target */
function drawDot(mask, x, y, target) {
  if (x < 0 || x >= target.width || y < 0 || y >= target.height) return;
  new Pen(target, mask.line ?? mask.fill).drawStrip(x, y, y + 1);
}

/** Draws with one colour, over what is there. */
class Pen {
  /** @param {Target} target @param {[number, number, number, number]} colour */
  constructor(target, colour) {
    this._target = target;
    this._colour = colour;
    this._word = new Uint32Array(Uint8Array.from(colour).buffer)[0];
    this._isOpaque = colour[3] === 255;
  }

  /** @param {number} x @param {number} y0 @param {number} y1 */
  drawStrip(x, y0, y1) {
    const { pixels, width, height } = this._target;
    const end = Math.min(height, y1) * width + x;
    for (let at = Math.max(0, y0) * width + x; at < end; at += width) {
      if (this._isOpaque || pixels[at] === 0) pixels[at] = this._word;
      else this._blend(at);
    }
  }

  /** @param {number} at */
  _blend(at) {
    const { data } = this._target;
    const [red, green, blue, alpha] = this._colour;
    const over = alpha / 255;
    const under = (data[4 * at + 3] / 255) * (1 - over);
    const sum = over + under;
    if (sum === 0) return;
    data[4 * at] = (red * over + data[4 * at] * under) / sum;
    data[4 * at + 1] = (green * over + data[4 * at + 1] * under) / sum;
    data[4 * at + 2] = (blue * over + data[4 * at + 2] * under) / sum;
    data[4 * at + 3] = 255 * sum;
  }
}
