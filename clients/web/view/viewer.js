/**
 * The picture: OpenSeadragon for tiles, zoom and pan. It takes no pointer and no key itself; `pointer.js` does. Places on
 * the screen are CSS pixels from the top left corner of the viewer, places on the picture are its pixels.
 *
 * Events: `move` (the view has changed, at each frame while it moves), `rest` (it has stopped), `open`, `fail`.
 */

const { OpenSeadragon } = globalThis;

const MAX_ZOOM = 24; // screen pixels for a pixel of the picture
const PREVIEW_PX = 4096;

export class Viewer extends EventTarget {
  /** element: empties it, and fills it. client: for the addresses of tiles. */
  constructor(element, client) {
    super();
    this.element = element;
    this.client = client;
    this.picture = null;
    preventStyleElement();
    this.isMoved = false; // by the user: until then the picture fits the viewer, also where that changes its size
    this.left = null; // {scene, bounds}: where the user was, on the picture that was open before
    this.osd = OpenSeadragon({
      element,
      drawer: "canvas",
      showNavigationControl: false,
      mouseNavEnabled: false,
      tabIndex: "",
      animationTime: 0.25,
      springStiffness: 9,
      visibilityRatio: 0.2,
      minZoomImageRatio: 0.5,
      maxZoomPixelRatio: MAX_ZOOM,
      imageSmoothingEnabled: true,
      immediateRender: true,
      blendTime: 0,
      preserveImageSizeOnResize: true,
    });
    const told = (name) => () => this.dispatchEvent(new Event(name));
    for (const name of ["update-viewport", "resize"]) this.osd.addHandler(name, told("move"));
    this.osd.addHandler("animation-finish", told("rest"));
    this.osd.addHandler("open", () => {
      const isSame = this.left?.scene === sceneOf(this.picture);
      this.isMoved = isSame;
      if (isSame) this.osd.viewport.fitBounds(this.left.bounds, true);
      else this.#refit();
      this.dispatchEvent(new Event("open"));
    });
    this.osd.addHandler("resize", () => queueMicrotask(() => this.#refit())); // OpenSeadragon sets the view after this event
    this.osd.addHandler("open-failed", told("fail"));
    this.osd.addHandler("zoom", () => this.osd.drawer?.setImageSmoothingEnabled?.(this.scale < 4));
  }

  /** Show a picture that the service has; null: nothing. */
  open(picture) {
    if (picture?.id === this.picture?.id && picture?.imageId === this.picture?.imageId) return;
    if (this.transform) this.left = this.isMoved ? { scene: sceneOf(this.picture), bounds: this.osd.viewport.getBounds(true) } : null;
    this.picture = picture;
    this.osd.close();
    this.osd.forceResize?.();
    if (picture) this.osd.open(this.#source(picture));
    this.dispatchEvent(new Event("move"));
  }

  /** Fetch what is shown anew. */
  reload() {
    const { picture } = this;
    this.open(null);
    this.open(picture);
  }

  #refit() {
    if (!this.isMoved) this.osd.viewport?.goHome(true);
  }

  #source({ imageId, width, height, tiles }) {
    if (!tiles) return { type: "image", url: this.client.previewUrl(imageId, Math.min(PREVIEW_PX, Math.max(width, height))) };
    return {
      width,
      height,
      tileSize: tiles.size,
      tileOverlap: 0,
      minLevel: 0,
      maxLevel: tiles.levels - 1,
      getTileUrl: (level, x, y) => this.client.tileUrl(imageId, level, x, y),
    };
  }

  /** {scale, x, y}: a pixel (px, py) of the picture is at (px * scale + x, py * scale + y) on the screen; null: nothing is shown. */
  get transform() {
    const { viewport } = this.osd;
    if (!this.picture || !viewport || !this.osd.world.getItemCount()) return null;
    const bounds = viewport.getBounds(true), size = viewport.getContainerSize(), perUnit = size.x / bounds.width;
    return { scale: perUnit / this.picture.width, x: -bounds.x * perUnit, y: -bounds.y * perUnit };
  }

  /** Screen pixels for a pixel of the picture. */
  get scale() {
    return this.transform?.scale ?? 1;
  }

  get size() {
    return { width: this.element.clientWidth, height: this.element.clientHeight };
  }

  /** The place on the picture below a place on the screen. */
  toPicture([x, y]) {
    const { scale, x: left, y: top } = this.transform ?? { scale: 1, x: 0, y: 0 };
    return [(x - left) / scale, (y - top) / scale];
  }

  toScreen([x, y]) {
    const { scale, x: left, y: top } = this.transform ?? { scale: 1, x: 0, y: 0 };
    return [x * scale + left, y * scale + top];
  }

  /** What is to be seen: x0, y0, x1, y1 on the picture, cut to it. */
  get window() {
    const { width, height } = this.size, [x0, y0] = this.toPicture([0, 0]), [x1, y1] = this.toPicture([width, height]);
    return [Math.max(0, x0), Math.max(0, y0), Math.min(this.picture.width, x1), Math.min(this.picture.height, y1)];
  }

  /** Move the picture by screen pixels. */
  pan(dx, dy, immediately = true) {
    const { viewport } = this.osd;
    if (!viewport) return;
    this.isMoved = true;
    viewport.panBy(viewport.deltaPointsFromPixels(new OpenSeadragon.Point(-dx, -dy), true), immediately);
    if (immediately) viewport.applyConstraints(true);
  }

  /** Zoom by a factor about a place on the screen; about the middle if left out. */
  zoom(factor, at = null, immediately = false) {
    const { viewport } = this.osd;
    if (!this.picture || !viewport) return;
    this.isMoved = true;
    const point = at ? viewport.pointFromPixel(new OpenSeadragon.Point(...at), true) : undefined;
    viewport.zoomBy(factor, point, immediately);
    viewport.applyConstraints(immediately);
  }

  /** Show all of the picture. */
  fit() {
    this.isMoved = false;
    this.osd.viewport?.goHome(false);
  }

  /** Bring a box of the picture into view, with room around it; only if it is not well in view. */
  reveal([x0, y0, x1, y1]) {
    const [left, top] = this.toScreen([x0, y0]), [right, bottom] = this.toScreen([x1, y1]), { width, height } = this.size;
    const isInside = left >= 0 && top >= 0 && right <= width && bottom <= height;
    if (isInside && Math.max(right - left, bottom - top) > 24) return;
    this.isMoved = true;
    const room = 2 * Math.max(x1 - x0, y1 - y0, 8), unit = this.picture.width;
    const rect = new OpenSeadragon.Rect((x0 - room) / unit, (y0 - room) / unit, (x1 - x0 + 2 * room) / unit, (y1 - y0 + 2 * room) / unit);
    this.osd.viewport?.fitBoundsWithConstraints(rect, false);
  }
}

/** Pictures of one scene are looked at in the same place: a picture that is made anew, and all frames of a clip along an axis. */
const sceneOf = (picture) => (picture?.source?.file ? `${picture.source.file} ${picture.source.axis}` : picture?.id);

/** OpenSeadragon adds a <style> for an overlay that is not used here, and the page's policy forbids it; not if it finds one. */
function preventStyleElement() {
  const standIn = document.createElementNS("urn:segserve:unused", "style");
  standIn.setAttribute("data-openseadragon-mobile-css", "");
  document.head.append(standIn);
}
