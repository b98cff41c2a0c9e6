/** The masks of a picture, drawn for any viewport. */

import { drawMasks } from "./raster.js";
import { boundingBox } from "./runs.js";

/**
 * @typedef {import("./raster.js").DrawnMask} DrawnMask
 * @typedef {import("./raster.js").Viewport} Viewport
 */

export class MaskLayer {
  constructor() {
    /** @type {Map<string, DrawnMask & {box: import("./runs.js").Box}>} */
    this._masks = new Map();
  }

  /** Add masks, or replace those of the same id. @param {Iterable<[string, DrawnMask]>} masks */
  set(masks) {
    for (const [id, mask] of masks) {
      this._masks.set(id, { ...mask, box: mask.box ?? boundingBox(mask.runs, mask.height) });
    }
  }

  /** @param {Iterable<string>} ids */
  delete(ids) {
    for (const id of ids) this._masks.delete(id);
  }

  clear() {
    this._masks.clear();
  }

  /**
   * @param {Viewport} viewport
   * @param {number} scale
   * @param {string[]} [order] Ids of the masks to draw, the lowest first; all, in the order they were added, if left out.
   */
  draw(viewport, scale, order) {
    const masks = order ? order.flatMap((id) => this._masks.get(id) ?? []) : [...this._masks.values()];
    return drawMasks(masks.filter(({ box }) => touches(box, viewport)), viewport, scale);
  }
}

/** @param {import("./runs.js").Box} box @param {Viewport} viewport */
function touches([x0, y0, x1, y1], { x, y, width, height }) {
  return x0 < x + width && x < x1 && y0 < y + height && y < y1;
}
