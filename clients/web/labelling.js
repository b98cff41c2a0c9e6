/**
 * What tools and actions do to the objects of the open picture. The current object is the one that clicks go to: a draft,
 * or an accepted object that is being corrected.
 */

import { fromBox, fromStroke } from "../js/src/masks/draw.js";
import { fillHoles, removeSpecks, split } from "../js/src/masks/parts.js";
import { area, subtract, union, unionAll } from "../js/src/masks/runs.js";
import { pendingFields, withBox, withPoint } from "./segmenting/prompts.js";
import * as commands from "./state/commands.js";
import { maskFields, runsOf } from "./state/masks.js";
import { newObject } from "./state/new_records.js";
import { texts } from "./texts/en.js";

export class Labelling {
  constructor({ store, session, segmenter, hover, index, viewer }) {
    Object.assign(this, { store, session, segmenter, hover, index, viewer });
  }

  get picture() {
    return this.store.document.pictures.get(this.session.picture) ?? null;
  }

  /** The class of new objects. */
  get classId() {
    const { classes } = this.store.document;
    return classes.has(this.session.classId) ? this.session.classId : this.store.document.listClasses()[0]?.id;
  }

  get objects() {
    return this.picture ? this.store.document.objectsOf(this.picture.id) : [];
  }

  get draft() {
    return this.objects.findLast(({ state }) => state === "draft") ?? null;
  }

  /** The object that clicks go to, or null: the next click makes one. */
  get current() {
    return this.store.document.objects.get(this.session.editing) ?? this.draft;
  }

  get selected() {
    return this.session.selected.map((id) => this.store.document.objects.get(id)).filter(Boolean);
  }

  /** Objects that acts on a mask are for: the current one, otherwise those selected. */
  get targets() {
    const { current } = this;
    return current ? [current] : this.selected;
  }

  get suggestions() {
    return this.objects.filter(({ state }) => state === "suggested");
  }

  /** The suggestion to decide on. */
  get suggestion() {
    return this.selected.find(({ state }) => state === "suggested") ?? null;
  }

  tell(text) {
    this.session.set({ status: text });
  }

  // ---- Prompts

  /** A point on the current object, or on a new one. label: 1 on it, 0 not on it. */
  addPoint(point, label) {
    if (!this.session.takesPoints && !this.current?.prompt?.box && !this.current?.mask) return this.tell(texts.status.boxesOnly(this.session.model));
    this.#prompt((object) => withPoint(object?.prompt, point, label), "addPoint", point);
  }

  /** A box around the current object, or a new one. */
  addBox(box) {
    this.#prompt((object) => withBox(object?.prompt, box), "addBox");
  }

  /** One of several boxes in one go: each makes an object that needs no accepting. */
  addBoxObject(box) {
    const { model } = this.session;
    const object = newObject(this.picture.id, this.classId);
    const fields = pendingFields(object, withBox(null, box), model);
    this.#send({ ...object, ...fields }, "addBox");
    this.tell(texts.status.boxAdded);
  }

  #prompt(change, label, point = null) {
    if (!this.picture?.width) return;
    const { current } = this, { model } = this.session, hovered = this.session.hovering;
    this.hover.clear();
    this.session.set({ problem: null });
    if (!current) {
      const object = newObject(this.picture.id, this.classId, { state: "draft" });
      // What was seen under the pointer is there at once; the answer takes its place.
      const seen = hovered?.mask && point ? { mask: hovered.mask, box: hovered.box, area: hovered.area, score: hovered.score } : {};
      this.session.set({ selected: [] });
      this.#send({ ...object, ...pendingFields(object, change(null), model), ...seen }, label);
    } else {
      const fields = pendingFields(current, change(current), model);
      const made = this.store.run(commands.editObjects, [current.id], fields, label);
      this.segmenter.send(current.id, made);
    }
    this.tell(texts.status.segmenting);
  }

  #send(object, label) {
    const made = this.store.run(commands.addObjects, [object], label);
    this.segmenter.send(object.id, made);
  }

  /** Take another one of the masks that the service offers. index: from 0. */
  chooseCandidate(index) {
    const object = this.current ?? this.selected[0], candidate = object?.candidates[index];
    if (!candidate) return false;
    this.store.run(commands.editObjects, [object.id], { ...candidate, candidate: index, base: null }, "chooseCandidate");
    this.tell(texts.status.candidate(index + 1, candidate));
    return true;
  }

  /** Ask again for all pictures' latest prompt with the model that is chosen now. */
  promptAgain() {
    for (const object of this.targets.filter(({ prompt }) => prompt)) {
      const made = this.store.run(commands.editObjects, [object.id], { ...pendingFields(object, object.prompt, this.session.model), refines: false }, "promptAgain");
      this.segmenter.send(object.id, made);
    }
  }

  /** Put the box of the prompt close around the mask, and ask again. */
  tightenBox() {
    for (const object of this.targets.filter(({ box, area: pixels }) => box && pixels)) {
      const fields = pendingFields(object, withBox(object.prompt, [...object.box]), this.session.model);
      const made = this.store.run(commands.editObjects, [object.id], fields, "tightenBox");
      if (made) this.segmenter.send(object.id, made);
    }
    this.tell(texts.status.tightened);
  }

  // ---- Accepting

  /** Accept the draft, end a correction, or accept the suggestion, whichever there is. */
  accept() {
    const { suggestion, current } = this;
    if (suggestion && !current) return this.acceptSuggestion();
    if (this.session.editing) {
      this.session.set({ editing: null, selected: [] });
      this.tell(texts.status.corrected);
      return true;
    }
    if (!current) return false;
    if (!current.pending && !current.area) {
      this.tell(texts.status.nothingThere);
      return false;
    }
    this.store.run(commands.accept, [current.id], this.#clip([current.id]));
    this.session.set({ selected: [] });
    this.tell(texts.status.accepted(this.objects.filter(({ state }) => state === "done").length));
    return true;
  }

  acceptSuggestion() {
    const { suggestion } = this;
    if (!suggestion) return false;
    this.store.run(commands.accept, [suggestion.id], this.#clip([suggestion.id]));
    this.nextSuggestion(suggestion);
    return true;
  }

  acceptAll() {
    const ids = this.suggestions.map(({ id }) => id);
    if (!ids.length) return;
    this.store.run(commands.accept, ids, this.#clip(ids));
    this.session.set({ selected: [] });
    this.tell(texts.status.acceptedAll(ids.length));
  }

  rejectAll() {
    this.store.run(commands.removeObjects, this.suggestions.map(({ id }) => id));
    this.session.set({ selected: [] });
  }

  /** Go to the next suggestion, the most alike first. */
  nextSuggestion(after = this.suggestion) {
    const left = this.suggestions.sort((a, b) => (b.likeness ?? 0) - (a.likeness ?? 0));
    if (!left.length) {
      this.session.set({ selected: [] });
      return this.tell(texts.status.noSuggestions);
    }
    const at = left.findIndex(({ id }) => id === after?.id);
    const next = left[(at + 1) % left.length];
    this.session.set({ selected: [next.id] });
    this.viewer.reveal(next.box);
    this.tell(texts.status.suggestion(left.length, next.likeness));
  }

  /** What other objects, and these, must give where there are to be no overlaps: {id: fields}. Earlier ones keep theirs. */
  #clip(ids) {
    if (!this.session.noOverlaps) return {};
    const fields = {};
    for (const id of ids) {
      const object = this.store.document.objects.get(id), clipped = object?.mask && this.withoutOthers(object, fields);
      if (clipped) fields[id] = clipped;
    }
    return fields;
  }

  /** The fields of an object without what others have, or null where they have none of it. */
  withoutOthers(object, changed = {}) {
    const others = this.index().inWindow(object.box).filter(({ id, state, mask }) => id !== object.id && mask && (state === "done" || id in changed));
    const [height] = object.mask.size, runs = runsOf(object.mask);
    const rest = subtract(runs, unionAll(others.map((other) => runsOf(changed[other.id]?.mask ?? other.mask))));
    if (area(rest) === object.area) return null;
    const fields = maskFields(removeSpecks(rest, height, this.session.minArea), object.mask.size);
    return { ...fields, base: fields.mask, candidates: [] };
  }

  /** Remove overlaps between all objects: the earlier ones keep what they have. */
  removeOverlaps() {
    const done = this.objects.filter(({ state, mask }) => state === "done" && mask), fields = {};
    const earlier = [];
    for (const object of done) {
      const before = unionAll(earlier.filter(({ box }) => meets(box, object.box)).map(({ runs }) => runs));
      const rest = subtract(runsOf(object.mask), before);
      if (area(rest) !== object.area) {
        const made = maskFields(rest, object.mask.size);
        fields[object.id] = { ...made, base: made.mask, candidates: [] };
      }
      earlier.push({ box: object.box, runs: rest });
    }
    this.store.run(commands.editObjects, Object.keys(fields), ({ id }) => fields[id], "removeOverlaps");
    this.tell(texts.status.overlapsRemoved(Object.keys(fields).length));
  }

  /** Throw the draft away, end a correction, or drop the selection, whichever there is. */
  clear() {
    this.hover.clear();
    if (this.session.editing) this.session.set({ editing: null });
    else if (this.draft) this.store.run(commands.removeObjects, [this.draft.id]);
    else if (this.session.selected.length) this.session.set({ selected: [] });
    else return false;
    this.tell(texts.status.cleared);
    return true;
  }

  // ---- Objects

  select(ids) {
    this.session.set({ selected: ids, editing: null });
    const [first] = this.selected;
    if (first) this.tell(texts.status.selected(ids.length, first, this.store.document.classes.get(first.class)?.name));
  }

  /** Reopen an accepted object: clicks correct it, with the prompts that made it. */
  edit(id = this.selected[0]?.id) {
    const object = this.store.document.objects.get(id);
    if (!object || object.state === "draft") return false;
    if (object.state === "suggested") this.store.run(commands.accept, [id], {});
    this.session.set({ editing: id, selected: [id], tool: ["brush", "erase"].includes(this.session.tool) ? this.session.tool : "segment" });
    this.tell(texts.status.editing(object.prompt?.points.length ?? 0));
    return true;
  }

  remove() {
    const { targets, suggestion } = this;
    if (!targets.length) return false;
    this.store.run(commands.removeObjects, targets.map(({ id }) => id));
    this.session.set({ editing: null, selected: [] });
    this.tell(texts.status.removed(targets.length));
    if (suggestion) this.nextSuggestion(suggestion);
    return true;
  }

  /** Give objects a class; without any, new objects get it. */
  setClass(classId) {
    const ids = this.targets.map(({ id }) => id);
    this.store.run(commands.setClass, ids, classId);
    if (!ids.length || this.draft) this.session.set({ classId });
    this.tell(texts.status.classIs(this.store.document.classes.get(classId)?.name));
  }

  duplicate() {
    const copies = this.selected.map((object) => newObject(object.picture, object.class, { ...object, id: crypto.randomUUID(), order: undefined, state: "done" }))
      .map((object) => ({ ...object, order: newObject("", "").order }));
    this.store.run(commands.addObjects, copies, "duplicate");
    if (copies.length) this.select(copies.map(({ id }) => id));
  }

  /** Select the next or the previous object of the list. */
  step(direction) {
    const list = this.objects.filter(({ state }) => state !== "draft");
    if (!list.length) return;
    const at = list.findIndex(({ id }) => id === this.session.selected[0]);
    const next = list[at < 0 ? (direction > 0 ? 0 : list.length - 1) : (at + direction + list.length) % list.length];
    this.select([next.id]);
    if (next.box) this.viewer.reveal(next.box);
  }

  // ---- Masks

  /** Paint or erase along a line. points: on the picture. radius: in its pixels. */
  paint(points, radius, erases) {
    const { picture } = this;
    if (!picture?.width) return;
    const stroke = fromStroke(points, radius, picture), size = [picture.height, picture.width];
    const [target] = this.targets;
    if (!target) {
      if (erases || !stroke.length) return;
      const made = maskFields(stroke, size);
      const object = newObject(picture.id, this.classId, { state: "draft", madeBy: "brush", ...made, base: made.mask });
      this.store.run(commands.addObjects, [object], "paint");
      return;
    }
    const before = target.mask ? runsOf(target.mask) : new Uint32Array(0);
    this.#setMask(target, erases ? subtract(before, stroke) : union(before, stroke), erases ? "erase" : "paint");
  }

  #setMask(object, runs, label) {
    const made = maskFields(runs, [this.picture.height, this.picture.width]);
    if (made.mask.counts === object.mask?.counts) return null;
    return this.store.run(commands.editObjects, [object.id], { ...made, base: made.mask, candidates: [], maskId: null, pending: false, revision: null }, label);
  }

  /** A box as a mask, without the service. */
  fillBox(box) {
    const made = maskFields(fromBox(box, this.picture), [this.picture.height, this.picture.width]);
    this.store.run(commands.addObjects, [newObject(this.picture.id, this.classId, { ...made, base: made.mask, madeBy: "brush" })], "addObjects");
  }

  /** Fill small holes and take away small parts. */
  clean() {
    const { minArea } = this.session, changed = {};
    for (const { id, mask } of this.targets.filter((object) => object.mask)) {
      const [height, width] = mask.size, runs = removeSpecks(fillHoles(runsOf(mask), width, height, minArea), height, minArea);
      const made = maskFields(runs, mask.size);
      if (made.mask.counts !== mask.counts) changed[id] = { ...made, base: made.mask, candidates: [] };
    }
    this.store.run(commands.editObjects, Object.keys(changed), ({ id }) => changed[id], "clean");
    this.tell(texts.status.cleaned(Object.keys(changed).length));
  }

  /** Make each part of an object an object of its own. */
  split() {
    const [object] = this.targets;
    if (!object?.mask) return;
    const parts = split(runsOf(object.mask), object.mask.size[0]);
    if (parts.length < 2) return this.tell(texts.status.onePart);
    const objects = parts.map((runs) => {
      const made = maskFields(runs, object.mask.size);
      return newObject(object.picture, object.class, { ...made, base: made.mask, state: "done", model: object.model, madeBy: object.madeBy });
    });
    this.store.run(commands.replaceObjects, [object.id], objects, "split");
    this.select(objects.map(({ id }) => id));
    this.tell(texts.status.split(parts.length));
  }

  /** Make one object of those selected. It keeps the first one's class. */
  join() {
    const objects = this.selected.filter(({ mask }) => mask);
    if (objects.length < 2) return this.tell(texts.status.joinNeedsTwo);
    const [first] = objects, made = maskFields(unionAll(objects.map(({ mask }) => runsOf(mask))), first.mask.size);
    const joined = newObject(first.picture, first.class, { ...made, base: made.mask, model: first.model, madeBy: first.madeBy });
    this.store.run(commands.replaceObjects, objects.map(({ id }) => id), [joined], "join");
    this.select([joined.id]);
    this.tell(texts.status.joined(objects.length));
  }

  /** How many pixels the polygon may differ from the mask; null: not at all. */
  setTolerance(tolerance) {
    this.store.run(commands.editObjects, this.targets.map(({ id }) => id), { tolerance: tolerance || null }, "setTolerance");
  }
}

const meets = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
