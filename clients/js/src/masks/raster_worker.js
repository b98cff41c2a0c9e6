/**
 * Draws masks in a worker. It keeps the masks, so that a move of the viewport sends none again.
 *
 * @typedef {import("./raster.js").DrawnMask} DrawnMask
 * @typedef {import("./raster.js").Viewport} Viewport
 *
 * @typedef {{type: "set", masks: [string, DrawnMask][]} | {type: "delete", ids: string[]} | {type: "clear"}
 *   | {type: "draw", request: number, viewport: Viewport, scale: number, order?: string[]}} Message
 */

import { MaskLayer } from "./mask_layer.js";

const layer = new MaskLayer();
const scope = /** @type {any} */ (globalThis);

scope.onmessage = (/** @type {MessageEvent<Message>} */ { data: message }) => {
  if (message.type === "set") layer.set(message.masks);
  else if (message.type === "delete") layer.delete(message.ids);
  else if (message.type === "clear") layer.clear();
  else {
    const { request, viewport, scale, order } = message;
    try {
      const picture = layer.draw(viewport, scale, order);
      scope.postMessage({ request, picture }, [picture.data.buffer]);
    } catch (error) {
      scope.postMessage({ request, error: String(error) });
    }
  }
};
