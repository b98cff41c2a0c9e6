/** Which objects of a picture are in a window, and which one is at a pixel. It follows the changes of the store. */

import { at } from "../../js/src/masks/runs.js";
import { runsOf } from "../state/masks.js";
import { SpatialIndex } from "./spatial_index.js";

export class PictureIndex {
  /** picture: with its size. */
  constructor(store, picture) {
    this.store = store;
    this.picture = picture.id;
    this.index = new SpatialIndex(picture.width, picture.height);
    for (const object of store.document.objectsOf(picture.id)) this.index.set(object.id, object.box);
  }

  /** Take over the edits of a change. Returns whether any was of this picture. */
  update(edits) {
    let touched = false;
    for (const { table, id, before, after } of edits) {
      if (table !== "objects" || (before ?? after)?.picture !== this.picture) continue;
      this.index.set(id, this.store.document.objects.get(id)?.box ?? null);
      touched = true;
    }
    return touched;
  }

  /** The objects whose boxes meet the window, from the bottom to the top. */
  inWindow(window) {
    const ids = this.index.find(window), { objects } = this.store.document;
    return [...ids].map((id) => objects.get(id)).filter(Boolean).sort((a, b) => a.order - b.order);
  }

  /** The smallest object that has the pixel, or null. */
  atPixel(x, y) {
    const hits = this.inWindow([x, y, x + 1e-6, y + 1e-6]).filter(({ mask }) => mask && at(runsOf(mask), mask.size[0], x, y));
    return hits.sort((a, b) => a.area - b.area)[0] ?? null;
  }
}
