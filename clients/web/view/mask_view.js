/**
 * The masks of the open picture on one canvas, drawn in a worker for what is to be seen and some room around it. While the
 * picture moves the canvas is only moved with it; it is drawn anew once the picture rests, or leaves what was drawn.
 */

import { fromPolygon, toPolygon } from "../../js/src/masks/outline.js";
import { RasterPool } from "../../js/src/masks/raster_pool.js";
import { runsOf } from "../state/masks.js";
import { parseHex, styleOf } from "./colours.js";

const ROOM = 0.3; // of the window, on each side
const REST_MS = 70;
const MAX_PIXELS = 8_000_000; // of the canvas

export class MaskView {
  /** index(): the PictureIndex of the open picture, or null. */
  constructor({ canvas, viewer, store, session, index }) {
    Object.assign(this, { canvas, viewer, store, session, index });
    this.context = canvas.getContext("bitmaprenderer");
    this.pool = new RasterPool();
    this.drawn = null; // {x, y, width, height, scale} of what is on the canvas
    this.timer = null;
    this.holding = new Map(); // object id -> what the worker was sent for it
    viewer.addEventListener("move", () => this.follow());
    viewer.addEventListener("rest", () => this.refresh());
  }

  /** Another picture is open. */
  reset() {
    this.pool.clear();
    this.holding.clear();
    this.drawn = null;
    this.context.transferFromImageBitmap(null);
    this.refresh();
  }

  /** Masks, the selection or colours have changed. */
  refresh() {
    clearTimeout(this.timer);
    this.timer = null;
    this.#draw();
  }

  /** The view has moved: move the canvas along. */
  follow() {
    const { transform } = this.viewer, { drawn } = this;
    if (!transform || !drawn) return;
    const left = drawn.x * transform.scale + transform.x, top = drawn.y * transform.scale + transform.y;
    this.canvas.style.transform = `translate(${left}px, ${top}px) scale(${(transform.scale * drawn.width) / this.canvas.width}, ${(transform.scale * drawn.height) / this.canvas.height})`;
    if (!this.#covers(this.viewer.window)) return this.#draw();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), REST_MS);
  }

  #covers([x0, y0, x1, y1]) {
    const { x, y, width, height } = this.drawn;
    return x <= x0 && y <= y0 && x + width >= x1 && y + height >= y1;
  }

  #region() {
    const [x0, y0, x1, y1] = this.viewer.window, { picture } = this.viewer;
    const [dx, dy] = [(x1 - x0) * ROOM, (y1 - y0) * ROOM];
    const [left, top] = [Math.max(0, x0 - dx), Math.max(0, y0 - dy)];
    return { x: left, y: top, width: Math.min(picture.width, x1 + dx) - left, height: Math.min(picture.height, y1 + dy) - top };
  }

  async #draw() {
    const { transform } = this.viewer, index = this.index();
    if (!transform || !index) return;
    const region = this.#region();
    if (!(region.width > 0 && region.height > 0)) return;
    const ratio = globalThis.devicePixelRatio || 1;
    const scale = Math.min(transform.scale * ratio, Math.sqrt(MAX_PIXELS / (region.width * region.height)));
    const order = this.session.masksHidden ? [] : this.#send(index.inWindow([region.x, region.y, region.x + region.width, region.y + region.height]), ratio);
    const picture = this.viewer.picture.id, bitmap = await this.pool.drawBitmap(region, scale, order);
    if (!bitmap || this.viewer.picture?.id !== picture) return;
    this.drawn = region;
    this.canvas.width = bitmap.width;
    this.canvas.height = bitmap.height;
    this.context.transferFromImageBitmap(bitmap);
    const now = this.viewer.transform;
    if (now) this.canvas.style.transform = `translate(${region.x * now.scale + now.x}px, ${region.y * now.scale + now.y}px) scale(${(now.scale * region.width) / this.canvas.width}, ${(now.scale * region.height) / this.canvas.height})`;
    this.canvas.dispatchEvent(new Event("drawn"));
  }

  /** Send the worker what it does not have as it is now. Returns the ids to draw, in their order. */
  #send(objects, ratio) {
    const { session, store } = this, news = [];
    const shared = { classes: store.document.classes, colourBy: session.colourBy, opacity: session.opacity, ratio };
    const visible = objects.filter(({ mask, area }) => mask && area);
    for (const object of visible) {
      const selected = session.selected.includes(object.id);
      const style = styleOf(object, { ...shared, selected }), key = `${style.fill} ${style.line} ${style.lineWidth} ${object.tolerance}`;
      const held = this.holding.get(object.id);
      if (held?.mask === object.mask && held.key === key) continue;
      this.holding.set(object.id, { mask: object.mask, key });
      news.push([object.id, { runs: shownRuns(object), height: object.mask.size[0], ...style }]);
    }
    const below = this.#semantic(news, ratio);
    if (news.length) this.pool.set(news);
    return [...below, ...visible.map(({ id }) => id)];
  }

  /** The classes of a semantic model, below all objects. Returns their ids. */
  #semantic(news, ratio) {
    const { semantic } = this.session;
    if (semantic?.picture !== this.viewer.picture.id) return [];
    return semantic.classes.map(({ name, mask, colour }) => {
      const id = `semantic ${name}`, rgb = parseHex(colour);
      if (this.holding.get(id)?.mask !== mask) {
        this.holding.set(id, { mask });
        news.push([id, { runs: runsOf(mask), height: mask.size[0], fill: [...rgb, 100], line: [...rgb, 200], lineWidth: Math.round(ratio) }]);
      }
      return id;
    });
  }
}

const simplified = new WeakMap(); // mask -> {tolerance, runs}

/** The runs of an object as it is shown and written: its polygon's, where it is simplified. */
export function shownRuns({ mask, tolerance }) {
  const runs = runsOf(mask);
  if (!tolerance) return runs;
  const known = simplified.get(mask);
  if (known?.tolerance === tolerance) return known.runs;
  const [height, width] = mask.size, polygon = fromPolygon(toPolygon(runs, height, tolerance), width, height);
  simplified.set(mask, { tolerance, runs: polygon });
  return polygon;
}
