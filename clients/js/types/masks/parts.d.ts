/**
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @returns {Segments}
 */
export function cutAtColumns(runs: Runs, height: number): Segments;
/**
 * Call a function for each two segments of neighbouring columns that share an edge.
 * @param {Segments} segments
 * @param {(left: number, right: number) => void} visit Indices of the two.
 */
export function forEachNeighbour({ x, y0, y1, count }: Segments, visit: (left: number, right: number) => void): void;
/**
 * Return the part of each segment, from 0, and the number of parts.
 * @param {Segments} segments
 */
export function labelParts(segments: Segments): {
    labels: Uint32Array<ArrayBuffer>;
    count: number;
};
/**
 * Return the parts of a mask, each a mask, the largest first.
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @returns {Runs[]}
 */
export function split(runs: Runs, height: number): Runs[];
/**
 * Return the mask without its small parts; the largest stays.
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @param {number} minArea Pixels.
 */
export function removeSpecks(runs: Runs, height: number, minArea: number): import("./runs.js").Runs;
/**
 * Return the mask with its holes filled. A hole is what the mask surrounds.
 * @param {Runs} runs
 * @param {number} width Of the image.
 * @param {number} height Of the image.
 * @param {number} [maxArea] Pixels; larger holes stay.
 */
export function fillHoles(runs: Runs, width: number, height: number, maxArea?: number): import("./runs.js").Runs;
/**
 * The parts of a mask: pieces that touch along an edge (4-connected), holes, specks.
 */
export type Runs = import("./runs.js").Runs;
/**
 * The runs of a mask cut at the ends of columns, from left to right and top to bottom.
 */
export type Segments = {
    /**
     * Column of each.
     */
    x: Uint32Array;
    y0: Uint32Array;
    /**
     * Exclusive.
     */
    y1: Uint32Array;
    count: number;
};
