/**
 * COCO's compressed run-length encoding (RLE) of masks, as pycocotools writes and reads it.
 *
 * Run lengths go down the columns and alternate between zeros and ones, zeros first. From the fourth on, a length is
 * stored as its difference to the one two before. A number is written as groups of 5 bits, lowest first, in two's
 * complement: each character is 48 plus the group, plus 32 if more groups follow. Source: common/maskApi.c of cocoapi.
 *
 * In this package a mask is its `Runs`: where each run of ones begins and ends; see runs.js.
 *
 * @typedef {import("./runs.js").Runs} Runs
 *
 * @typedef {object} Rle
 * @property {[number, number]} size height, width
 * @property {string | number[] | Uint32Array} counts Compressed, or the lengths themselves.
 */

// A run's end must fit 32 bits.
const MAX_PIXELS = 2 ** 32 - 1;
// 40 bits with their sign: more than any image has pixels.
const MAX_GROUPS = 8;

/**
 * Return the runs of a mask. Throws RangeError for anything that is not a run-length encoding of exactly its size.
 * @param {Rle} rle
 * @returns {Runs}
 */
export function decode({ size: [height, width], counts }) {
  return lengthsToRuns(typeof counts === "string" ? parseCounts(counts) : counts, countPixels(height, width));
}

/**
 * Return COCO's compressed form of a mask.
 * @param {Runs} runs
 * @param {number} width
 * @param {number} height
 * @returns {{size: [number, number], counts: string}}
 */
export function encode(runs, width, height) {
  return { size: [height, width], counts: formatCounts(runsToLengths(runs, countPixels(height, width))) };
}

/**
 * Return the lengths of all runs, of zeros and ones in turn. Throws RangeError for a malformed string.
 * @param {string} counts
 */
export function parseCounts(counts) {
  const lengths = new Uint32Array(counts.length);
  let count = 0;
  for (let at = 0; at < counts.length; ) {
    let number = 0;
    let weight = 1;
    let group;
    let groups = 0;
    do {
      if (at === counts.length) throw new RangeError("The run lengths end in the middle of a number.");
      group = counts.charCodeAt(at++) - 48;
      if (!(group >= 0 && group < 64)) throw new RangeError("The run lengths have a character that is not between '0' and 'o'.");
      if (++groups > MAX_GROUPS) throw new RangeError("The run lengths have a number with too many characters.");
      number += (group & 31) * weight;
      weight *= 32;
    } while (group & 32);
    if (group & 16) number -= weight;
    if (count > 2) number += lengths[count - 2];
    if (!(number >= 0 && number <= MAX_PIXELS)) throw new RangeError("A run length is negative or too large.");
    lengths[count++] = number;
  }
  return lengths.slice(0, count);
}

/**
 * Return the compressed string of the lengths of all runs, of zeros and ones in turn.
 * @param {ArrayLike<number>} lengths
 */
export function formatCounts(lengths) {
  /** @type {number[]} */
  const codes = [];
  const pieces = [];
  for (let i = 0; i < lengths.length; i++) {
    let number = i > 2 ? lengths[i] - lengths[i - 2] : lengths[i];
    for (let more = true; more; ) {
      const rest = Math.floor(number / 32);
      const group = number - 32 * rest;
      number = rest;
      // A number is complete once only copies of the last group's sign are left.
      more = group & 16 ? number !== -1 : number !== 0;
      codes.push(group + (more ? 80 : 48));
    }
    if (codes.length > 8000) pieces.push(String.fromCharCode(...codes.splice(0)));
  }
  pieces.push(String.fromCharCode(...codes));
  return pieces.join("");
}

/**
 * Return where the runs of ones begin and end. Throws RangeError if the lengths do not add up to `pixels`.
 * @param {ArrayLike<number>} lengths
 * @param {number} pixels
 * @returns {Runs}
 */
export function lengthsToRuns(lengths, pixels) {
  const runs = new Uint32Array(lengths.length + 1);
  let count = 0;
  let end = 0;
  for (let i = 0; i < lengths.length; i++) {
    const start = end;
    end += lengths[i];
    if (!(lengths[i] >= 0) || end > pixels) throw new RangeError(`The run lengths do not add up to ${pixels} pixels.`);
    if (i % 2 === 0 || end === start) continue;
    if (count && runs[count - 1] === start) count -= 2; // a run of no zeros parts nothing
    else runs[count] = start;
    runs[count + 1] = end;
    count += 2;
  }
  if (end !== pixels) throw new RangeError(`The run lengths do not add up to ${pixels} pixels.`);
  return runs.slice(0, count);
}

/**
 * Return the lengths of all runs, of zeros and ones in turn.
 * @param {Runs} runs
 * @param {number} pixels
 */
export function runsToLengths(runs, pixels) {
  const lengths = new Uint32Array(runs.length + 1);
  let end = 0;
  for (let i = 0; i < runs.length; i++) {
    lengths[i] = runs[i] - end;
    end = runs[i];
  }
  lengths[runs.length] = pixels - end;
  return end === pixels && runs.length ? lengths.slice(0, -1) : lengths;
}

/**
 * @param {number} height
 * @param {number} width
 */
function countPixels(height, width) {
  const pixels = height * width;
  if (!(Number.isInteger(height) && Number.isInteger(width) && height >= 0 && width >= 0 && pixels <= MAX_PIXELS)) {
    throw new RangeError(`A mask cannot have ${height} rows and ${width} columns.`);
  }
  return pixels;
}
