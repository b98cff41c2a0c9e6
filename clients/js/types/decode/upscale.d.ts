/**
 * Return the runs of where the logits at the image's size exceed a threshold.
 * @param {Float32Array} logits
 * @param {LogitsGeometry} geometry
 * @param {number} threshold
 */
export function upscaleMask(logits: Float32Array, geometry: LogitsGeometry, threshold: number): import("../masks/runs.js").Runs;
/**
 * The two inputs of each output in bilinear resizing, and their weights: PyTorch's, which computes positions in float32.
 */
export type Neighbours = {
    index: Int32Array;
    weight: Float64Array;
};
/**
 * Upscales low-res logits to the mask of the image (bilinear, in the steps of the model's family), only where the mask can
 * be. Its values are those of `segserve/masks/upscale.py`.
 */
export type LogitsGeometry = import("./geometry.js").LogitsGeometry;
/**
 * Resizes one axis: each output is a weighted sum of four inputs.
 */
export type Operator = {
    /**
     * [out * 4]
     */
    index: Int32Array;
    /**
     * [out * 4]
     */
    weight: Float64Array;
    /**
     * Outputs that read the same inputs.
     */
    groups: {
        start: number;
        stop: number;
        inputs: number[];
    }[];
};
