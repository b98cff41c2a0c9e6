/**
 * Holds masks and draws them in a worker; where there are no workers, in place. Of the views that wait, only the newest is
 * drawn: the others are answered with null.
 */
export class RasterPool {
    /** @type {Worker | null} */
    _worker: Worker | null;
    /** @type {MaskLayer | null} */
    _layer: MaskLayer | null;
    /** @type {Draw | null} */
    _running: Draw | null;
    /** @type {Draw | null} */
    _waiting: Draw | null;
    _request: number;
    _startWorker(): void;
    /**
     * Add masks, or replace those of the same id. The runs are copied.
     * @param {Iterable<[string, DrawnMask]>} masks
     */
    set(masks: Iterable<[string, DrawnMask]>): void;
    /** @param {Iterable<string>} ids */
    delete(ids: Iterable<string>): void;
    clear(): void;
    /**
     * Draw the masks for a viewport. A newer call replaces those that wait.
     * @param {Viewport} viewport
     * @param {number} scale
     * @param {string[]} [order] Ids of the masks to draw, the lowest first; all if left out.
     * @returns {Promise<Picture | null>} null if a newer view has replaced this one.
     */
    draw(viewport: Viewport, scale: number, order?: string[]): Promise<Picture | null>;
    /** Draw, and return what a canvas draws at once. Browsers only. @param {Viewport} viewport @param {number} scale @param {string[]} [order] */
    drawBitmap(viewport: Viewport, scale: number, order?: string[]): Promise<ImageBitmap | null>;
    /** Stop the worker. */
    close(): void;
    _next(): void;
    /** @param {unknown} error @param {Picture | null} picture */
    _finish(error: unknown, picture: Picture | null): void;
}
export type DrawnMask = import("./raster.js").DrawnMask;
export type Picture = import("./raster.js").Picture;
export type Viewport = import("./raster.js").Viewport;
export type View = {
    viewport: Viewport;
    scale: number;
    order?: string[];
};
export type Draw = {
    view: View;
    resolve: (picture: Picture | null) => void;
    reject: (error: unknown) => void;
};
import { MaskLayer } from "./mask_layer.js";
