/** The number of ones, in pixels. @param {Runs} runs */
export function area(runs: Runs): number;
/**
 * The box around the ones; zeros if there are none.
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @returns {Box}
 */
export function boundingBox(runs: Runs, height: number): Box;
/**
 * Whether a pixel is of the mask.
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @param {number} x Rounded down.
 * @param {number} y Rounded down; outside of the image nothing is of the mask.
 */
export function at(runs: Runs, height: number, x: number, y: number): boolean;
/**
 * Return the index of the first boundary above a position. It is odd if the position is in a run.
 * @param {Runs} runs
 * @param {number} position
 * @param {number} [from] Index to begin at.
 */
export function firstAbove(runs: Runs, position: number, from?: number): number;
/** Pixels of any of the masks. @param {Runs[]} masks @returns {Runs} */
export function unionAll(masks: Runs[]): Runs;
/** The number of pixels of both. @param {Runs} a @param {Runs} b */
export function overlapArea(a: Runs, b: Runs): number;
/** Intersection over union; 1 for two empty masks. @param {Runs} a @param {Runs} b */
export function iou(a: Runs, b: Runs): number;
/**
 * Return the runs of a bitmap that lies somewhere on the image. What lies outside of the image is cut off.
 * @param {ArrayLike<number>} bitmap Row by row; what is not 0 is of the mask.
 * @param {{width: number, height: number}} size Of the bitmap.
 * @param {{x?: number, y?: number, imageWidth?: number, imageHeight?: number}} [place] Of its corner on the image.
 * @returns {Runs}
 */
export function fromBitmap(bitmap: ArrayLike<number>, { width, height }: {
    width: number;
    height: number;
}, { x, y, imageWidth, imageHeight }?: {
    x?: number;
    y?: number;
    imageWidth?: number;
    imageHeight?: number;
}): Runs;
/**
 * Return a window of the mask, row by row, 1 inside.
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @param {Box} window Within the image.
 */
export function toBitmap(runs: Runs, height: number, [x0, y0, x1, y1]: Box): Uint8Array<ArrayBuffer>;
/**
 * Call a function for each part of a run within one column of a window, from left to right and top to bottom.
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @param {Box} window
 * @param {(x: number, y0: number, y1: number) => void} visit y1 is exclusive.
 */
export function forEachSegment(runs: Runs, height: number, [x0, y0, x1, y1]: Box, visit: (x: number, y0: number, y1: number) => void): void;
/**
 * Return the mask moved to an image of another height, its pixels where they were. Those outside are cut off.
 * @param {Runs} runs
 * @param {number} height
 * @param {{x?: number, y?: number, width: number, height: number}} target Where the old corner lies, and the new size.
 */
export function move(runs: Runs, height: number, { x, y, width: newWidth, height: newHeight }: {
    x?: number;
    y?: number;
    width: number;
    height: number;
}): Runs;
export function empty(): Runs;
export function union(a: Runs, b: Runs): Runs;
export function intersect(a: Runs, b: Runs): Runs;
export function subtract(a: Runs, b: Runs): Runs;
export function invert(runs: Runs, width: number, height: number): Runs;
/** Collects segments of columns, in ascending order, and joins those that touch. */
export class RunBuilder {
    /** @param {number} height Of the image. */
    constructor(height: number);
    _height: number;
    _runs: Uint32Array<ArrayBuffer>;
    _count: number;
    /** @param {number} x @param {number} y0 @param {number} y1 Exclusive. */
    add(x: number, y0: number, y1: number): void;
    /** @returns {Runs} */
    finish(): Runs;
}
/**
 * Where each run of ones begins and ends (exclusive), begin and end in turn,
 *   ascending. Positions go down the columns: the pixel (x, y) is at x * height + y. A run may go on in the next column.
 */
export type Runs = Uint32Array<ArrayBuffer>;
/**
 * x0, y0, x1, y1 in pixels; x1 and y1 are exclusive.
 */
export type Box = [number, number, number, number];
