/**
 * The mask of a box.
 * @param {[number, number, number, number]} box x0, y0, x1, y1
 * @param {Size} size
 * @returns {Runs}
 */
export function fromBox([x0, y0, x1, y1]: [number, number, number, number], { width, height }: Size): Runs;
/**
 * The mask of a brush that was drawn along a line.
 * @param {[number, number][]} points x, y of the brush's centre; one point is a disc.
 * @param {number} radius Pixels.
 * @param {Size} size
 * @returns {Runs}
 */
export function fromStroke(points: [number, number][], radius: number, size: Size): Runs;
/**
 * Shapes that a user draws, as runs: a pixel is of a shape if its centre is.
 */
export type Runs = import("./runs.js").Runs;
/**
 * Of the image, in pixels.
 */
export type Size = {
    width: number;
    height: number;
};
