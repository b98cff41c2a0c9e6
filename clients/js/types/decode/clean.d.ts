/**
 * @param {Float32Array} logits Square.
 * @param {number} threshold
 * @param {Marks} marks
 * @returns {CleanedLogits}
 */
export function cleanLogits(logits: Float32Array, threshold: number, marks: Marks): CleanedLogits;
/**
 * The box around the values above a threshold: x0, y0, x1, y1; zeros if there are none.
 * @param {Float32Array} logits
 * @param {number} edge
 * @param {number} threshold
 * @returns {[number, number, number, number]}
 */
export function boundingBox(logits: Float32Array, edge: number, threshold: number): [number, number, number, number];
/**
 * Cleans a mask as the service does: removes the parts that nothing marks, and fills small holes. It works on low-res
 * logits. The rules are those of `segserve/masks/clean.py`.
 */
export type Marks = import("./prompt_encoding.js").Marks;
/**
 * Cleans a mask as the service does: removes the parts that nothing marks, and fills small holes. It works on low-res
 * logits. The rules are those of `segserve/masks/clean.py`.
 */
export type CleanedLogits = {
    logits: Float32Array;
    removedParts: number;
    filledHoles: number;
};
