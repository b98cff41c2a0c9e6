/** What is drawn above the masks at each frame: the hovered mask, the prompts of the current object, the tool's own marks. */

import { drawMasks } from "../../js/src/masks/raster.js";
import { runsOf } from "../state/masks.js";
import { parseHex } from "./colours.js";

const INK = "#fff";
const SHADE = "rgba(0, 0, 0, .55)";
const COLOUR = { 1: "#1fa34a", 0: "#e5484d" };

export class MarksView {
  /** current(): the object that prompts are shown of, or null. tool(): has `draw(pen, viewer)` where it draws. */
  constructor({ canvas, viewer, session, current, tool, colour }) {
    Object.assign(this, { canvas, viewer, session, current, tool, colour });
    this.pen = canvas.getContext("2d");
    this.scheduled = false;
    this.hoverCanvas = document.createElement("canvas");
    viewer.addEventListener("move", () => this.schedule());
  }

  /** Draw at the next frame. */
  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.draw();
    });
  }

  draw() {
    const { pen, canvas, viewer } = this, { width, height } = viewer.size, ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!viewer.transform) return;
    const { hovering } = this.session;
    if (hovering?.mask) this.#drawMask(hovering.mask, hovering.box, this.colour());
    const current = this.current();
    if (current) this.#drawPrompt(current);
    this.tool().draw?.(pen, viewer);
    canvas.dispatchEvent(new Event("drawn"));
  }

  #drawMask(mask, box, hex) {
    const { viewer } = this, { scale, x, y } = viewer.transform, window = viewer.window, ratio = devicePixelRatio || 1;
    const [x0, y0] = [Math.max(box[0], window[0]) - 2 / scale, Math.max(box[1], window[1]) - 2 / scale];
    const [x1, y1] = [Math.min(box[2], window[2]) + 2 / scale, Math.min(box[3], window[3]) + 2 / scale];
    if (x1 <= x0 || y1 <= y0) return;
    const rgb = parseHex(hex), drawn = { runs: runsOf(mask), height: mask.size[0], box, fill: [...rgb, 90], line: [...rgb, 255], lineWidth: Math.round(1.5 * ratio) };
    const { data, width, height } = drawMasks([drawn], { x: x0, y: y0, width: x1 - x0, height: y1 - y0 }, scale * ratio);
    Object.assign(this.hoverCanvas, { width, height });
    this.hoverCanvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
    this.pen.drawImage(this.hoverCanvas, x0 * scale + x, y0 * scale + y, (x1 - x0) * scale, (y1 - y0) * scale);
  }

  #drawPrompt({ prompt }) {
    if (!prompt) return;
    if (prompt.box) drawBox(this.pen, this.viewer, prompt.box);
    prompt.points.forEach((point, at) => drawPoint(this.pen, this.viewer.toScreen(point), prompt.labels[at]));
  }
}

/** A box of the picture. */
export function drawBox(pen, viewer, [x0, y0, x1, y1], { dashed = false } = {}) {
  const [left, top] = viewer.toScreen([x0, y0]), [right, bottom] = viewer.toScreen([x1, y1]);
  pen.setLineDash(dashed ? [6, 4] : []);
  for (const [style, width] of [[SHADE, 4], [INK, 1.75]]) {
    pen.strokeStyle = style;
    pen.lineWidth = width;
    pen.strokeRect(left, top, right - left, bottom - top);
  }
  pen.setLineDash([]);
}

function drawPoint(pen, [x, y], label) {
  pen.beginPath();
  pen.arc(x, y, 7, 0, 2 * Math.PI);
  pen.fillStyle = COLOUR[label];
  pen.fill();
  pen.lineWidth = 3.5;
  pen.strokeStyle = SHADE;
  pen.stroke();
  pen.lineWidth = 2;
  pen.strokeStyle = INK;
  pen.stroke();
  pen.beginPath();
  pen.moveTo(x - 3.5, y);
  pen.lineTo(x + 3.5, y);
  if (label) {
    pen.moveTo(x, y - 3.5);
    pen.lineTo(x, y + 3.5);
  }
  pen.stroke();
}

/** The ring of a brush. */
export function drawRing(pen, [x, y], radius) {
  for (const [style, width] of [[SHADE, 3.5], [INK, 1.5]]) {
    pen.beginPath();
    pen.arc(x, y, Math.max(1, radius), 0, 2 * Math.PI);
    pen.strokeStyle = style;
    pen.lineWidth = width;
    pen.stroke();
  }
}

/** The cross that stands for the pointer where there is none. */
export function drawCross(pen, [x, y]) {
  for (const [style, width] of [[SHADE, 4], [INK, 1.5]]) {
    pen.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      pen.moveTo(x + 4 * dx, y + 4 * dy);
      pen.lineTo(x + 14 * dx, y + 14 * dy);
    }
    pen.strokeStyle = style;
    pen.lineWidth = width;
    pen.stroke();
  }
}
