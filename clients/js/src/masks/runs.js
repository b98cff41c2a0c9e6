/**
 * Masks as runs: operations that never raster the image. Their cost follows the number of runs.
 *
 * @typedef {Uint32Array<ArrayBuffer>} Runs Where each run of ones begins and ends (exclusive), begin and end in turn,
 *   ascending. Positions go down the columns: the pixel (x, y) is at x * height + y. A run may go on in the next column.
 *
 * @typedef {[number, number, number, number]} Box x0, y0, x1, y1 in pixels; x1 and y1 are exclusive.
 */

/** The mask without ones. @returns {Runs} */
export const empty = () => new Uint32Array(0);

/** The number of ones, in pixels. @param {Runs} runs */
export function area(runs) {
  let sum = 0;
  for (let i = 0; i < runs.length; i += 2) sum += runs[i + 1] - runs[i];
  return sum;
}

/**
 * The box around the ones; zeros if there are none.
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @returns {Box}
 */
export function boundingBox(runs, height) {
  if (!runs.length) return [0, 0, 0, 0];
  let y0 = height;
  let y1 = 0;
  for (let i = 0; i < runs.length; i += 2) {
    const top = runs[i] % height;
    const bottom = top + runs[i + 1] - runs[i];
    if (bottom > height) [y0, y1] = [0, height]; // it goes on in the next column
    else [y0, y1] = [Math.min(y0, top), Math.max(y1, bottom)];
    if (y0 === 0 && y1 === height) break;
  }
  return [Math.floor(runs[0] / height), y0, Math.floor((runs[runs.length - 1] - 1) / height) + 1, y1];
}

/**
 * Whether a pixel is of the mask.
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @param {number} x Rounded down.
 * @param {number} y Rounded down; outside of the image nothing is of the mask.
 */
export function at(runs, height, x, y) {
  if (!(x >= 0 && y >= 0 && y < height)) return false;
  const position = Math.floor(x) * height + Math.floor(y);
  const index = firstAbove(runs, position);
  return index % 2 === 1;
}

/**
 * Return the index of the first boundary above a position. It is odd if the position is in a run.
 * @param {Runs} runs
 * @param {number} position
 * @param {number} [from] Index to begin at.
 */
export function firstAbove(runs, position, from = 0) {
  let low = from;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (runs[middle] > position) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Pixels of either. @param {Runs} a @param {Runs} b */
export const union = (a, b) => combine(a, b, (inA, inB) => inA || inB);

/** Pixels of both. @param {Runs} a @param {Runs} b */
export const intersect = (a, b) => combine(a, b, (inA, inB) => inA && inB);

/** Pixels of the first that are not of the second. @param {Runs} a @param {Runs} b */
export const subtract = (a, b) => combine(a, b, (inA, inB) => inA && !inB);

/** Pixels of the image that are not of the mask. @param {Runs} runs @param {number} width @param {number} height */
export const invert = (runs, width, height) => subtract(Uint32Array.of(0, width * height), runs);

/** Pixels of any of the masks. @param {Runs[]} masks @returns {Runs} */
export function unionAll(masks) {
  if (masks.length < 2) return masks[0] ?? empty();
  const middle = masks.length >> 1;
  return union(unionAll(masks.slice(0, middle)), unionAll(masks.slice(middle)));
}

/**
 * @param {Runs} a
 * @param {Runs} b
 * @param {(inA: boolean, inB: boolean) => boolean} keep
 * @returns {Runs}
 */
function combine(a, b, keep) {
  const result = new Uint32Array(a.length + b.length);
  let count = 0;
  let inside = false;
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    const position = Math.min(i < a.length ? a[i] : Infinity, j < b.length ? b[j] : Infinity);
    while (a[i] === position) i++;
    while (b[j] === position) j++;
    if (keep(i % 2 === 1, j % 2 === 1) === inside) continue;
    inside = !inside;
    result[count++] = position;
  }
  return result.slice(0, count);
}

/** The number of pixels of both. @param {Runs} a @param {Runs} b */
export function overlapArea(a, b) {
  let sum = 0;
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const overlap = Math.min(a[i + 1], b[j + 1]) - Math.max(a[i], b[j]);
    if (overlap > 0) sum += overlap;
    if (a[i + 1] < b[j + 1]) i += 2;
    else j += 2;
  }
  return sum;
}

/** Intersection over union; 1 for two empty masks. @param {Runs} a @param {Runs} b */
export function iou(a, b) {
  const both = overlapArea(a, b);
  const either = area(a) + area(b) - both;
  return either ? both / either : 1;
}

/**
 * Return the runs of a bitmap that lies somewhere on the image. What lies outside of the image is cut off.
 * @param {ArrayLike<number>} bitmap Row by row; what is not 0 is of the mask.
 * @param {{width: number, height: number}} size Of the bitmap.
 * @param {{x?: number, y?: number, imageWidth?: number, imageHeight?: number}} [place] Of its corner on the image.
 * @returns {Runs}
 */
export function fromBitmap(bitmap, { width, height }, { x = 0, y = 0, imageWidth = x + width, imageHeight = y + height } = {}) {
  const builder = new RunBuilder(imageHeight);
  const [x0, x1] = [Math.max(0, -x), Math.min(width, imageWidth - x)];
  const [y0, y1] = [Math.max(0, -y), Math.min(height, imageHeight - y)];
  for (let column = x0; column < x1; column++) {
    for (let row = y0; row < y1; row++) {
      if (!bitmap[row * width + column]) continue;
      const start = row++;
      while (row < y1 && bitmap[row * width + column]) row++;
      builder.add(x + column, y + start, y + row);
    }
  }
  return builder.finish();
}

/**
 * Return a window of the mask, row by row, 1 inside.
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @param {Box} window Within the image.
 */
export function toBitmap(runs, height, [x0, y0, x1, y1]) {
  const width = x1 - x0;
  const bitmap = new Uint8Array(width * (y1 - y0));
  forEachSegment(runs, height, [x0, y0, x1, y1], (x, top, bottom) => {
    for (let y = top; y < bottom; y++) bitmap[(y - y0) * width + x - x0] = 1;
  });
  return bitmap;
}

/**
 * Call a function for each part of a run within one column of a window, from left to right and top to bottom.
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @param {Box} window
 * @param {(x: number, y0: number, y1: number) => void} visit y1 is exclusive.
 */
export function forEachSegment(runs, height, [x0, y0, x1, y1], visit) {
  let index = 0;
  for (let x = x0; x < x1; x++) {
    const start = x * height + y0;
    const end = x * height + y1;
    index = firstAbove(runs, start, index);
    if (index >= runs.length) return;
    for (let i = index & ~1; i < runs.length && runs[i] < end; i += 2) {
      visit(x, Math.max(runs[i], start) - x * height, Math.min(runs[i + 1], end) - x * height);
    }
    index &= ~1; // the run may go on in the next column
  }
}

/**
 * Return the mask moved to an image of another height, its pixels where they were. Those outside are cut off.
 * @param {Runs} runs
 * @param {number} height
 * @param {{x?: number, y?: number, width: number, height: number}} target Where the old corner lies, and the new size.
 */
export function move(runs, height, { x = 0, y = 0, width: newWidth, height: newHeight }) {
  const builder = new RunBuilder(newHeight);
  const [x0, y0, x1, y1] = boundingBox(runs, height);
  forEachSegment(runs, height, [Math.max(x0, -x), y0, Math.min(x1, newWidth - x), y1], (column, top, bottom) => {
    const [start, end] = [Math.max(0, top + y), Math.min(newHeight, bottom + y)];
    if (start < end) builder.add(column + x, start, end);
  });
  return builder.finish();
}

/** Collects segments of columns, in ascending order, and joins those that touch. */
export class RunBuilder {
  /** @param {number} height Of the image. */
  constructor(height) {
    this._height = height;
    this._runs = new Uint32Array(64);
    this._count = 0;
  }

  /** @param {number} x @param {number} y0 @param {number} y1 Exclusive. */
  add(x, y0, y1) {
    if (y0 >= y1) return;
    const start = x * this._height + y0;
    const end = x * this._height + y1;
    if (this._count && this._runs[this._count - 1] >= start) {
      if (end > this._runs[this._count - 1]) this._runs[this._count - 1] = end;
      return;
    }
    if (this._count === this._runs.length) {
      const larger = new Uint32Array(2 * this._runs.length);
      larger.set(this._runs);
      this._runs = larger;
    }
    this._runs[this._count++] = start;
    this._runs[this._count++] = end;
  }

  /** @returns {Runs} */
  finish() {
    return this._runs.slice(0, this._count);
  }
}
