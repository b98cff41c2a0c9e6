/** A grid over the picture that finds the boxes in a window without going through all. */

const MIN_CELL = 64;
const CELLS = 64; // along the longer side

export class SpatialIndex {
  /** width, height: of the picture, in pixels. */
  constructor(width, height) {
    this.cell = Math.max(MIN_CELL, Math.ceil(Math.max(width, height) / CELLS));
    this.columns = Math.ceil(width / this.cell);
    this.rows = Math.ceil(height / this.cell);
    this.cells = new Map();
    this.boxes = new Map();
  }

  /** Put an item where its box is; a box of null takes it out. box: x0, y0, x1, y1, the last two exclusive. */
  set(id, box) {
    const old = this.boxes.get(id);
    if (old) this.#visit(old, (at) => this.cells.get(at)?.delete(id));
    this.boxes.delete(id);
    if (!box || box[2] <= box[0] || box[3] <= box[1]) return;
    this.boxes.set(id, box);
    this.#visit(box, (at) => {
      if (!this.cells.has(at)) this.cells.set(at, new Set());
      this.cells.get(at).add(id);
    });
  }

  /** The ids whose boxes meet the window. @returns {Set<string>} */
  find(window) {
    const found = new Set();
    this.#visit(window, (at) => {
      for (const id of this.cells.get(at) ?? []) if (!found.has(id) && meets(this.boxes.get(id), window)) found.add(id);
    });
    return found;
  }

  #visit([x0, y0, x1, y1], act) {
    const first = (edge) => Math.max(0, Math.floor(edge / this.cell));
    const last = (edge, count) => Math.min(count - 1, Math.ceil(edge / this.cell) - 1);
    for (let row = first(y0); row <= last(y1, this.rows); row++)
      for (let column = first(x0); column <= last(x1, this.columns); column++) act(row * this.columns + column);
  }
}

const meets = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
