/**
 * The mask under the pointer before a click. One request is on its way at a time; of the places that the pointer passes
 * meanwhile only the latest is asked for.
 */

export class Hover {
  /** segment(point): resolves to a mask of the service. show(answer or null). */
  constructor({ segment, show }) {
    Object.assign(this, { segment, show });
    this.next = null;
    this.busy = false;
    this.generation = 0;
  }

  /** The pointer is at a pixel of the picture. */
  move(point) {
    this.next = point;
    if (!this.busy) this.#run();
  }

  /** The pointer has left, or a click has taken over: nothing is shown, also of what is on its way. */
  clear() {
    this.next = null;
    this.generation++;
    this.show(null);
  }

  async #run() {
    this.busy = true;
    while (this.next) {
      const point = this.next, { generation } = this;
      this.next = null;
      try {
        const answer = await this.segment(point);
        if (generation === this.generation) this.show(answer && { ...answer, point });
      } catch {
        // A hint only: a click tells what is wrong.
        if (generation === this.generation) this.show(null);
      }
    }
    this.busy = false;
  }
}
