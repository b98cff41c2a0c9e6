/**
 * @typedef {import("./raster.js").DrawnMask} DrawnMask
 * @typedef {import("./raster.js").Viewport} Viewport
 */
export class MaskLayer {
    /** @type {Map<string, DrawnMask & {box: import("./runs.js").Box}>} */
    _masks: Map<string, DrawnMask & {
        box: import("./runs.js").Box;
    }>;
    /** Add masks, or replace those of the same id. @param {Iterable<[string, DrawnMask]>} masks */
    set(masks: Iterable<[string, DrawnMask]>): void;
    /** @param {Iterable<string>} ids */
    delete(ids: Iterable<string>): void;
    clear(): void;
    /**
     * @param {Viewport} viewport
     * @param {number} scale
     * @param {string[]} [order] Ids of the masks to draw, the lowest first; all, in the order they were added, if left out.
     */
    draw(viewport: Viewport, scale: number, order?: string[]): import("./raster.js").Picture;
}
export type DrawnMask = import("./raster.js").DrawnMask;
export type Viewport = import("./raster.js").Viewport;
