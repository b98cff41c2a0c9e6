/**
 * Return the runs of a mask. Throws RangeError for anything that is not a run-length encoding of exactly its size.
 * @param {Rle} rle
 * @returns {Runs}
 */
export function decode({ size: [height, width], counts }: Rle): Runs;
/**
 * Return COCO's compressed form of a mask.
 * @param {Runs} runs
 * @param {number} width
 * @param {number} height
 * @returns {{size: [number, number], counts: string}}
 */
export function encode(runs: Runs, width: number, height: number): {
    size: [number, number];
    counts: string;
};
/**
 * Return the lengths of all runs, of zeros and ones in turn. Throws RangeError for a malformed string.
 * @param {string} counts
 */
export function parseCounts(counts: string): Uint32Array<ArrayBuffer>;
/**
 * Return the compressed string of the lengths of all runs, of zeros and ones in turn.
 * @param {ArrayLike<number>} lengths
 */
export function formatCounts(lengths: ArrayLike<number>): string;
/**
 * Return where the runs of ones begin and end. Throws RangeError if the lengths do not add up to `pixels`.
 * @param {ArrayLike<number>} lengths
 * @param {number} pixels
 * @returns {Runs}
 */
export function lengthsToRuns(lengths: ArrayLike<number>, pixels: number): Runs;
/**
 * Return the lengths of all runs, of zeros and ones in turn.
 * @param {Runs} runs
 * @param {number} pixels
 */
export function runsToLengths(runs: Runs, pixels: number): Uint32Array<ArrayBuffer>;
/**
 * COCO's compressed run-length encoding (RLE) of masks, as pycocotools writes and reads it.
 *
 * Run lengths go down the columns and alternate between zeros and ones, zeros first. From the fourth on, a length is
 * stored as its difference to the one two before. A number is written as groups of 5 bits, lowest first, in two's
 * complement: each character is 48 plus the group, plus 32 if more groups follow. Source: common/maskApi.c of cocoapi.
 *
 * In this package a mask is its `Runs`: where each run of ones begins and ends; see runs.js.
 */
export type Runs = import("./runs.js").Runs;
/**
 * COCO's compressed run-length encoding (RLE) of masks, as pycocotools writes and reads it.
 *
 * Run lengths go down the columns and alternate between zeros and ones, zeros first. From the fourth on, a length is
 * stored as its difference to the one two before. A number is written as groups of 5 bits, lowest first, in two's
 * complement: each character is 48 plus the group, plus 32 if more groups follow. Source: common/maskApi.c of cocoapi.
 *
 * In this package a mask is its `Runs`: where each run of ones begins and ends; see runs.js.
 */
export type Rle = {
    /**
     * height, width
     */
    size: [number, number];
    /**
     * Compressed, or the lengths themselves.
     */
    counts: string | number[] | Uint32Array;
};
