/** Draws masks off the page's thread. */

import { MaskLayer } from "./mask_layer.js";

/**
 * @typedef {import("./raster.js").DrawnMask} DrawnMask
 * @typedef {import("./raster.js").Picture} Picture
 * @typedef {import("./raster.js").Viewport} Viewport
 *
 * @typedef {{viewport: Viewport, scale: number, order?: string[]}} View
 * @typedef {{view: View, resolve: (picture: Picture | null) => void, reject: (error: unknown) => void}} Draw
 */

const WORKER_URL = new URL("./raster_worker.js", import.meta.url);

/**
 * Holds masks and draws them in a worker; where there are no workers, in place. Of the views that wait, only the newest is
 * drawn: the others are answered with null.
 */
export class RasterPool {
  constructor() {
    /** @type {Worker | null} */
    this._worker = null;
    /** @type {MaskLayer | null} */
    this._layer = null;
    /** @type {Draw | null} */
    this._running = null;
    /** @type {Draw | null} */
    this._waiting = null;
    this._request = 0;
    if (typeof Worker === "undefined") this._layer = new MaskLayer();
    else this._startWorker();
  }

  _startWorker() {
    const worker = (this._worker = new Worker(WORKER_URL, { type: "module" }));
    worker.onmessage = ({ data: { request, picture, error } }) => {
      if (request === this._request) this._finish(error ? new Error(error) : null, picture);
    };
    worker.onerror = (event) => this._finish(new Error(event.message || "The worker that draws masks has failed."), null);
  }

  /**
   * Add masks, or replace those of the same id. The runs are copied.
   * @param {Iterable<[string, DrawnMask]>} masks
   */
  set(masks) {
    if (this._layer) this._layer.set(masks);
    else this._worker?.postMessage({ type: "set", masks: [...masks] });
  }

  /** @param {Iterable<string>} ids */
  delete(ids) {
    if (this._layer) this._layer.delete(ids);
    else this._worker?.postMessage({ type: "delete", ids: [...ids] });
  }

  clear() {
    if (this._layer) this._layer.clear();
    else this._worker?.postMessage({ type: "clear" });
  }

  /**
   * Draw the masks for a viewport. A newer call replaces those that wait.
   * @param {Viewport} viewport
   * @param {number} scale
   * @param {string[]} [order] Ids of the masks to draw, the lowest first; all if left out.
   * @returns {Promise<Picture | null>} null if a newer view has replaced this one.
   */
  draw(viewport, scale, order) {
    return new Promise((resolve, reject) => {
      this._waiting?.resolve(null);
      this._waiting = { view: { viewport, scale, order }, resolve, reject };
      if (!this._running) this._next();
    });
  }

  /** Draw, and return what a canvas draws at once. Browsers only. @param {Viewport} viewport @param {number} scale @param {string[]} [order] */
  async drawBitmap(viewport, scale, order) {
    const picture = await this.draw(viewport, scale, order);
    return picture && createImageBitmap(new ImageData(picture.data, picture.width, picture.height));
  }

  /** Stop the worker. */
  close() {
    this._worker?.terminate();
    this._waiting?.resolve(null);
    this._running?.resolve(null);
    this._waiting = this._running = null;
  }

  _next() {
    const draw = (this._running = this._waiting);
    this._waiting = null;
    if (!draw) return;
    const { viewport, scale, order } = draw.view;
    this._request++;
    if (!this._layer) {
      this._worker?.postMessage({ type: "draw", request: this._request, viewport, scale, order });
      return;
    }
    try {
      this._finish(null, this._layer.draw(viewport, scale, order));
    } catch (error) {
      this._finish(error, null);
    }
  }

  /** @param {unknown} error @param {Picture | null} picture */
  _finish(error, picture) {
    const done = this._running;
    if (error) done?.reject(error);
    else done?.resolve(picture);
    this._running = null;
    this._next();
  }
}
