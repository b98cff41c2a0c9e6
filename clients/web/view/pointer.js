/**
 * Mouse, pen and fingers over the picture, for the tools. One finger or the left button is the tool's; two fingers, the
 * middle button, or any drag while space is held move the picture; the wheel zooms.
 */

const WHEEL_FACTOR = 1.0018;
const CLICK_PX = 5; // a shorter drag is a click

export class Pointer {
  /** tool(): the current one, with optional press, drag, release, cancel, hover, leave. */
  constructor(element, viewer, tool) {
    Object.assign(this, { element, viewer, tool });
    this.pointers = new Map(); // id -> place on the screen
    this.pressed = null; // {id, start, place, event}
    this.panning = null;
    this.spaceHeld = false;
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    element.addEventListener("pointerup", (event) => this.#up(event));
    element.addEventListener("pointercancel", (event) => this.#cancel(event));
    element.addEventListener("pointerleave", () => this.tool().leave?.());
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("dblclick", (event) => this.tool().double?.(this.#picturePlace(event), event));
  }

  #place({ clientX, clientY }) {
    const { left, top } = this.element.getBoundingClientRect();
    return [clientX - left, clientY - top];
  }

  #picturePlace(event) {
    return this.viewer.toPicture(this.#place(event));
  }

  #down(event) {
    if (event.target.closest?.("button, input, a")) return;
    this.element.focus?.({ preventScroll: true });
    const place = this.#place(event);
    this.pointers.set(event.pointerId, place);
    this.element.setPointerCapture(event.pointerId);
    if (this.pointers.size === 2) return this.#stopPress(); // the second finger: both move the picture
    const pans = event.button === 1 || this.spaceHeld || this.tool().pans;
    if (pans) {
      this.panning = { id: event.pointerId, place };
      this.element.classList.add("panning");
      return;
    }
    if (event.button === 1) return;
    this.pressed = { id: event.pointerId, start: place, place, button: event.button, isDrag: false };
    this.tool().press?.(this.viewer.toPicture(place), event);
  }

  #move(event) {
    const place = this.#place(event), before = this.pointers.get(event.pointerId);
    if (before) this.pointers.set(event.pointerId, place);
    if (this.pointers.size >= 2 && before) return this.#pinch(event.pointerId, before, place);
    if (this.panning?.id === event.pointerId) {
      this.viewer.pan(place[0] - this.panning.place[0], place[1] - this.panning.place[1]);
      this.panning.place = place;
      return;
    }
    if (!this.pressed) {
      if (event.pointerType !== "touch") this.tool().hover?.(this.viewer.toPicture(place), event);
      return;
    }
    if (this.pressed.id !== event.pointerId) return;
    this.pressed.place = place;
    const far = Math.hypot(place[0] - this.pressed.start[0], place[1] - this.pressed.start[1]) >= CLICK_PX;
    this.pressed.isDrag ||= far;
    const places = (event.getCoalescedEvents?.() ?? []).map((one) => this.#picturePlace(one));
    if (this.pressed.isDrag) this.tool().drag?.(this.viewer.toPicture(this.pressed.start), this.viewer.toPicture(place), event, places);
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    if (this.panning?.id === event.pointerId) {
      this.panning = null;
      this.element.classList.remove("panning");
      return;
    }
    const { pressed } = this;
    if (pressed?.id !== event.pointerId) return;
    this.pressed = null;
    const start = this.viewer.toPicture(pressed.start), end = this.viewer.toPicture(this.#place(event));
    this.tool().release?.(start, end, { isDrag: pressed.isDrag, button: pressed.button, shift: event.shiftKey, alt: event.altKey, touch: event.pointerType === "touch" });
  }

  #cancel(event) {
    this.pointers.delete(event.pointerId);
    this.panning = null;
    this.#stopPress();
  }

  #stopPress() {
    if (this.pressed) this.tool().cancel?.();
    this.pressed = null;
    this.panning = null;
  }

  #pinch(id, before, place) {
    const [other] = [...this.pointers].filter(([key]) => key !== id).map(([, at]) => at);
    const spread = (at) => Math.max(10, Math.hypot(at[0] - other[0], at[1] - other[1]));
    const middle = [(place[0] + other[0]) / 2, (place[1] + other[1]) / 2];
    this.viewer.pan((place[0] - before[0]) / 2, (place[1] - before[1]) / 2);
    this.viewer.zoom(spread(place) / spread(before), middle, true);
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 20 : 1;
    if (event.shiftKey && !event.ctrlKey) return this.viewer.pan(-(event.deltaX || event.deltaY) * lines, 0);
    this.viewer.zoom(WHEEL_FACTOR ** (-event.deltaY * lines * (event.ctrlKey ? 4 : 1)), this.#place(event), false);
  }
}
