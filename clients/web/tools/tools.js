/**
 * What the pointer does, by tool. Places are pixels of the picture. A tool may have: press(place), drag(start, place,
 * event, places), release(start, end, how), cancel(), hover(place), leave(), double(place), draw(pen, viewer); `pans`: a
 * drag moves the picture. how: {isDrag, button, shift, alt, touch}.
 */

import { drawBox, drawRing } from "../view/marks_view.js";

const round = (value) => Math.round(10 * value) / 10;

const inside = ([x, y], { width, height }) => x >= 0 && y >= 0 && x < width && y < height;

const clamp = ([x, y], { width, height }) => [round(Math.min(Math.max(x, 0), width)), round(Math.min(Math.max(y, 0), height))];

/** The box between two places, or null where it has no area. */
export function toBox(a, b, picture) {
  const [start, end] = [clamp(a, picture), clamp(b, picture)];
  const box = [Math.min(start[0], end[0]), Math.min(start[1], end[1]), Math.max(start[0], end[0]), Math.max(start[1], end[1])];
  return box[2] - box[0] >= 1 && box[3] - box[1] >= 1 ? box : null;
}

class BoxDrag {
  box = null;

  constructor(app) {
    this.app = app;
  }

  drag(start, place) {
    const { picture } = this.app.labelling;
    this.box = picture?.width ? toBox(start, place, picture) : null;
    this.app.marks.schedule();
  }

  cancel() {
    this.box = null;
    this.app.marks.schedule();
  }

  /** The box that was drawn; forgets it. */
  take() {
    const { box } = this;
    this.cancel();
    return box;
  }

  draw(pen, viewer) {
    if (this.box) drawBox(pen, viewer, this.box, { dashed: true });
  }
}

/** Clicks and boxes for the service. */
export class SegmentTool extends BoxDrag {
  hover(place) {
    const { app } = this, { session, labelling } = app;
    const canHover = session.hover && session.takesPoints && !labelling.current && !session.masksHidden && labelling.picture?.width && inside(place, labelling.picture);
    if (canHover && app.isReady()) app.hover.move(place.map(round));
    else app.hover.clear();
  }

  leave() {
    this.app.hover.clear();
  }

  press() {
    this.app.hover.next = null;
  }

  release(start, end, { isDrag, button, shift, alt }) {
    const { labelling, session, index } = this.app, box = this.take();
    if (!labelling.picture?.width) return;
    if (isDrag) return box && labelling.addBox(box);
    if (!inside(end, labelling.picture)) return;
    const hit = alt && index()?.atPixel(...end);
    if (hit) return labelling.edit(hit.id);
    const label = shift || button === 2 ? 0 : session.sign;
    labelling.addPoint(end.map(round), label);
  }
}

/** Every drag is an object. */
export class BoxesTool extends BoxDrag {
  release(start, end, { isDrag }) {
    const box = this.take();
    if (isDrag && box) this.app.labelling.addBoxObject(box);
  }
}

/** Paints on the current object, or erases from it. */
const MIN_RADIUS_PX = 0.71; // half of a pixel's diagonal

export class BrushTool {
  points = [];
  place = null;

  constructor(app, erases) {
    Object.assign(this, { app, erases });
  }

  /** In pixels of the picture. The pixel under the pointer is always within it, wherever in it the pointer is. */
  get radius() {
    return Math.max(MIN_RADIUS_PX, this.app.session.brushRadius / this.app.viewer.scale);
  }

  hover(place) {
    this.place = place;
    this.app.marks.schedule();
  }

  leave() {
    this.place = null;
    this.app.marks.schedule();
  }

  press(place) {
    this.points = [place];
    this.app.marks.schedule();
  }

  drag(start, place, event, places) {
    this.points.push(...(places.length ? places : [place]));
    this.place = place;
    this.app.marks.schedule();
  }

  cancel() {
    this.points = [];
    this.app.marks.schedule();
  }

  release(start, end, { button, shift }) {
    const { points } = this;
    this.cancel();
    if (points.length) this.app.labelling.paint(points, this.radius, this.erases !== (shift || button === 2));
  }

  draw(pen, viewer) {
    const { brushRadius } = this.app.session;
    if (this.points.length) {
      pen.globalAlpha = 0.5;
      pen.strokeStyle = this.erases ? "#000" : this.app.currentColour();
      pen.lineWidth = 2 * brushRadius;
      pen.lineCap = pen.lineJoin = "round";
      pen.beginPath();
      const [first, ...rest] = this.points.map((point) => viewer.toScreen(point));
      pen.moveTo(...first);
      for (const point of rest.length ? rest : [first]) pen.lineTo(...point);
      pen.stroke();
      pen.globalAlpha = 1;
    }
    if (this.place) drawRing(pen, viewer.toScreen(this.place), brushRadius);
  }
}

/** Picks objects; with shift several; a drag picks all that it touches. */
export class SelectTool extends BoxDrag {
  release(start, end, { isDrag, shift }) {
    const { labelling, session, index } = this.app, box = this.take();
    const hits = isDrag && box ? index()?.inWindow(box).map(({ id }) => id) ?? [] : [index()?.atPixel(...end)?.id].filter(Boolean);
    if (!shift) return labelling.select(hits);
    const kept = session.selected.filter((id) => isDrag || !hits.includes(id));
    labelling.select([...new Set([...kept, ...hits.filter((id) => isDrag || !session.selected.includes(id))])]);
  }

  double(place) {
    const hit = this.app.index()?.atPixel(...place);
    if (hit) this.app.labelling.edit(hit.id);
  }
}

/** Moves the picture. */
export class PanTool {
  pans = true;
}

export const makeTools = (app) => ({
  segment: new SegmentTool(app),
  boxes: new BoxesTool(app),
  brush: new BrushTool(app, false),
  erase: new BrushTool(app, true),
  select: new SelectTool(app),
  pan: new PanTool(),
});
