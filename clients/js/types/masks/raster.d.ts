/**
 * Draw masks, the later ones over the earlier ones. A mask that is smaller than a pixel of the picture is one pixel.
 * @param {Iterable<DrawnMask>} masks
 * @param {Viewport} viewport
 * @param {number} scale Pixels of the picture for each pixel of the image.
 * @returns {Picture}
 */
export function drawMasks(masks: Iterable<DrawnMask>, viewport: Viewport, scale: number): Picture;
export type Target = {
    pixels: Uint32Array;
    data: Uint8ClampedArray;
    width: number;
    height: number;
};
/**
 * Where intervals of rows begin and end, in turn, ascending.
 */
export type Strips = number[];
/**
 * Draws masks for a viewport, at its scale. The cost follows the viewport and the runs in it, not the image.
 */
export type Runs = import("./runs.js").Runs;
/**
 * Draws masks for a viewport, at its scale. The cost follows the viewport and the runs in it, not the image.
 */
export type Box = import("./runs.js").Box;
/**
 * Draws masks for a viewport, at its scale. The cost follows the viewport and the runs in it, not the image.
 */
export type DrawnMask = {
    runs: Runs;
    /**
     * Of the image that the runs are of.
     */
    height: number;
    /**
     * Red, green, blue, alpha, 0 to 255.
     */
    fill: [number, number, number, number];
    /**
     * Of its outline, likewise; no outline if left out.
     */
    line?: [number, number, number, number] | undefined;
    /**
     * Pixels of the picture that is drawn.
     */
    lineWidth?: number | undefined;
    /**
     * As `boundingBox` returns it, where it is known.
     */
    box?: import("./runs.js").Box | undefined;
};
/**
 * The part of the image to draw, in pixels of the image. It may reach beyond the image.
 */
export type Viewport = {
    x: number;
    y: number;
    width: number;
    height: number;
};
/**
 * Rows of RGBA, not premultiplied.
 */
export type Picture = {
    data: Uint8ClampedArray<ArrayBuffer>;
    width: number;
    height: number;
};
