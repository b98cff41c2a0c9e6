/** Puts the parts of the page together, and holds the acts that need several of them. */

import { Segmenter as Decoding } from "../js/src/decode/segmenter.js";
import { PictureIndex } from "./geometry/picture_index.js";
import { actionByName, actions } from "./keys/actions.js";
import { actionOf, keyOf } from "./keys/keymap.js";
import { Labelling } from "./labelling.js";
import { FileStore } from "./pictures/file_store.js";
import { UploadQueue } from "./pictures/upload_queue.js";
import { Hover } from "./segmenting/hover.js";
import { isAway, Segmenter } from "./segmenting/segmenter.js";
import { LongRuns } from "./segmenting/long_runs.js";
import { findClasses, findEverything, findSimilar, toObject, withoutKnown } from "./segmenting/whole_image.js";
import * as commands from "./state/commands.js";
import { newClass, newPicture } from "./state/new_records.js";
import { texts } from "./texts/en.js";
import { looksLikeClip, Timeline } from "./timeline/timeline.js";
import { makeTools } from "./tools/tools.js";
import { answerFields } from "./segmenting/prompts.js";
import { objectColour } from "./view/colours.js";
import { MarksView, drawCross } from "./view/marks_view.js";
import { MaskView } from "./view/mask_view.js";
import { Pointer } from "./view/pointer.js";
import { Viewer } from "./view/viewer.js";

const MIN_BRUSH_PX = 1;
const MAX_BRUSH_PX = 200;
const SLOW_STEP = 4; // the cross moves by so much less with shift

/** Where a file of ONNX Runtime is: it is fetched only where clicks are decoded here. */
const runtimeUrl = (name) => new URL(`../js/vendor/onnxruntime-web/${name}`, import.meta.url).href;

export class App {
  /** database: null where labels cannot be saved. login: asks for a key while requests of the client wait. */
  constructor({ store, session, database, client, login }) {
    Object.assign(this, { store, session, database, client, login });
    Object.assign(login, { isAgain: true, onDone: (who) => this.#loggedIn(who), onChange: () => session.set({ isLoggedOut: Boolean(login.waiting) }) });
    this.decoding = new Decoding({ client: this.client, decode: session.decode, ortUrl: runtimeUrl("ort.wasm.bundle.min.mjs"), wasmUrl: runtimeUrl("ort-wasm-simd-threaded.wasm"),
      onChoice: () => this.session.dispatchEvent(new CustomEvent("change", { detail: new Set(["decoding"]) })) });
    this.files = new FileStore(database);
    this.queue = new UploadQueue({ client: this.client, store, session, files: this.files });
    this.segmenter = new Segmenter({ client: this.client, decoding: this.decoding, store, session, queue: this.queue, onRefused: (problem) => this.showProblem(problem), onBack: () => this.#back() });
    this.runs = new LongRuns({
      client: this.client, store, session, onProblem: (problem) => this.showProblem(problem), onStopped: () => this.labelling.tell(texts.status.stopped),
      onDone: (id, number) => this.labelling.tell(id === session.picture ? texts.status.foundObjects(number) : texts.status.foundOn(store.document.pictures.get(id).name, number)),
    });
    this.hover = new Hover({ segment: (point) => this.#hoverMask(point), show: (hovering) => this.session.set({ hovering }) });
    this.timeline = new Timeline({
      client: this.client, store, session, files: this.files, queue: this.queue, openPicture: (id) => this.openPicture(id), showProblem: (problem) => this.showProblem(problem),
    });
    this.pictureIndex = null;
    this.index = () => this.pictureIndex;
    this.cursor = null; // the cross of the keyboard, on the picture
    this.fileInput = makeInput({ multiple: true });
    this.folderInput = makeInput({ webkitdirectory: true });
    this.labelInput = makeInput({ multiple: true });
  }

  /** Take over the elements of the frame, once they are drawn. */
  mount({ viewerElement, maskCanvas, marksCanvas, glass }) {
    const { store, session } = this;
    this.viewer = new Viewer(viewerElement, this.client);
    this.labelling = new Labelling({ store, session, segmenter: this.segmenter, hover: this.hover, index: () => this.index(), viewer: this.viewer });
    this.tools = makeTools(this);
    this.masks = new MaskView({ canvas: maskCanvas, viewer: this.viewer, store, session, index: () => this.index() });
    this.marks = new MarksView({
      canvas: marksCanvas, viewer: this.viewer, session, current: () => this.labelling.current, colour: () => this.currentColour(),
      tool: () => ({ draw: (pen, viewer) => { this.tool.draw?.(pen, viewer); if (this.cursor) drawCross(pen, viewer.toScreen(this.cursor)); } }),
    });
    this.pointer = new Pointer(glass, this.viewer, () => this.tool);
    this.viewer.addEventListener("open", () => { this.masks.reset(); this.marks.schedule(); });
    this.viewer.addEventListener("fail", () => this.marks.schedule());
    store.addEventListener("change", ({ detail }) => this.#stored(detail));
    session.addEventListener("change", ({ detail }) => this.#sessionChanged(detail));
    this.#showPicture();
  }

  get tool() {
    return this.tools[this.session.tool] ?? this.tools.segment;
  }

  /** Whether the open picture is encoded, so that hovering costs little. */
  isReady() {
    return this.session.online && this.session.pictureStates.get(this.session.picture)?.state === "ready";
  }

  currentColour() {
    const { session, labelling } = this;
    if (session.colourBy === "object" && !labelling.current) return "#5fd7ff";
    const classId = labelling.current?.class ?? labelling.classId;
    return this.store.document.classes.get(classId)?.colour ?? "#2f9bff";
  }

  /** Where clicks on the chosen model are decoded, by what is known now: {by, reason}. reason: why not in the browser. */
  get decodingNow() {
    const { by, reason } = this.decoding.choice(this.session.model ?? "");
    return { by: reason ? "server" : by, reason };
  }

  /** The colour of an object in lists. */
  colourOf(object) {
    if (this.session.colourBy !== "object") return this.store.document.classes.get(object.class)?.colour ?? "#888888";
    return `rgb(${objectColour(Math.floor(object.order * 1024) % 4096).join(" ")})`;
  }

  // ---- The login

  /** Somebody has logged in again. Requests go on, unless it is somebody of another tenant. */
  async #loggedIn(who) {
    await this.#take(who);
    this.viewer.reload();
    for (const image of document.images) if (image.complete && !image.naturalWidth) image.src = image.src; // refused meanwhile
    this.labelling.tell(texts.login.done(who.name));
  }

  /** The service is back. Where it was away from the start, it did not say yet who the user is. */
  async #back() {
    if (!this.session.who) await this.#take(await this.client.identity());
    this.runs.resume();
  }

  async #take(who) {
    if (who.tenant !== this.session.tenant) {
      location.reload();
      await new Promise(() => {}); // nothing of this page is sent for the other tenant
    }
    this.session.set({ who });
  }

  async logOut() {
    if (!confirm(texts.login.out)) return;
    try {
      await this.client.logout();
      location.reload();
    } catch (problem) {
      this.showProblem(problem);
    }
  }

  // ---- The start

  async start() {
    await this.loadModels();
    this.segmenter.sendPending();
    this.queue.advance();
    this.runs.resume();
  }

  async loadModels() {
    try {
      const models = await this.client.models(), promptable = models.filter(({ input_size: size }) => size);
      const fallback = promptable.find((model) => model.default) ?? promptable[0];
      const wanted = promptable.find(({ name }) => name === this.session.model);
      if (this.session.model && !wanted && fallback)
        this.session.set({ problem: { detail: texts.service.modelGone(this.session.model), remedy: texts.service.modelGoneRemedy } });
      if (!fallback) this.session.set({ problem: { detail: texts.service.noModels, remedy: texts.service.noModelsRemedy } });
      this.session.set({ models, model: (wanted ?? fallback)?.name ?? null, online: true });
    } catch (problem) {
      if (!isAway(problem)) return this.showProblem(problem);
      this.segmenter.lost();
    }
  }

  showProblem(problem) {
    if (problem?.name === "AbortError") return this.labelling.tell(texts.status.stopped);
    const { detail, remedy, message } = problem;
    this.session.set({ problem: { detail: detail || message || texts.service.unexpected, remedy: remedy ?? (detail ? "" : texts.service.unexpectedRemedy) }, status: "" });
  }

  // ---- Pictures

  chooseFiles() {
    this.fileInput.click();
  }

  chooseLabels() {
    this.labelInput.click();
  }

  chooseFolder() {
    this.folderInput.click();
  }

  /** Open files of the user. files: {name, file}[]. The first of them is shown. */
  async openFiles(files) {
    if (!files.length) return;
    this.session.set({ problem: null });
    const pictures = [];
    for (const { name, file } of files.filter((one) => !looksLikeClip(one))) {
      const gone = this.store.document.listPictures().find((picture) => picture.name === name && this.session.pictureStates.get(picture.id)?.problem?.code === "file_gone");
      const picture = gone ?? newPicture(name);
      const lasts = await this.files.keep(picture.id, file);
      if (!lasts && this.database) this.session.set({ saving: "full" });
      if (!gone) this.store.plant("pictures", picture);
      else this.queue.retry(picture.id);
      pictures.push(picture);
    }
    if (pictures.length) this.openPicture(pictures[0].id);
    for (const clip of files.filter(looksLikeClip)) await this.timeline.open(clip);
  }

  openPicture(id) {
    this.hover.clear();
    this.cursor = null;
    this.session.set({ picture: id, selected: [], editing: null, semantic: null, problem: null, sheet: null });
    this.queue.advance();
  }

  stepPicture(direction) {
    const pictures = this.store.document.listPictures(), at = pictures.findIndex(({ id }) => id === this.session.picture);
    const next = pictures[at + direction];
    if (next) this.openPicture(next.id);
  }

  removePicture(id) {
    const picture = this.store.document.pictures.get(id), objects = this.store.document.objectsOf(id).length;
    if (objects && !confirm(texts.pictures.confirmRemove(picture.name, objects))) return;
    const pictures = this.store.document.listPictures(), at = pictures.findIndex((other) => other.id === id);
    const next = pictures[at + 1] ?? pictures[at - 1];
    this.store.run(commands.removePictures, [id]);
    if (this.session.picture === id) this.session.set({ picture: next?.id ?? null, selected: [], editing: null });
  }

  /** Forget everything: pictures, labels, the history. */
  async clearWorkspace() {
    const { pictures, objects } = this.store.document;
    if (!confirm(texts.pictures.confirmAll(pictures.size, objects.size))) return;
    await this.database?.clear();
    location.replace(location.pathname);
  }

  /** Open a picture that the service has, such as `segserve demo` names: with a click on each point. */
  async openImage(imageId, points = [], name = texts.picture) {
    let picture = this.store.document.listPictures().find((known) => known.imageId === imageId);
    if (!picture) {
      const { width, height, tiles = null } = await this.client.getImage(imageId);
      picture = newPicture(name, { imageId, width, height, tiles, source: { imageId } });
      this.store.plant("pictures", picture);
    }
    this.openPicture(picture.id);
    if (this.labelling.objects.length) return;
    for (const point of points) {
      this.labelling.accept();
      this.labelling.addPoint(point, 1);
    }
  }

  #showPicture() {
    const picture = this.labelling.picture;
    const isUploaded = picture?.imageId && picture.width;
    this.pictureIndex = isUploaded ? new PictureIndex(this.store, picture) : null;
    this.viewer.open(isUploaded ? picture : null);
    this.masks.refresh();
    this.marks.schedule();
    if (isUploaded) this.labelling.tell(texts.status.opened(picture));
  }

  // ---- What changes lead to

  #stored({ edits, kind }) {
    const { session, labelling } = this;
    if (edits.some(({ table, id }) => table === "pictures" && id === session.picture)) {
      const shown = this.viewer.picture;
      if (!labelling.picture) session.set({ picture: this.store.document.listPictures()[0]?.id ?? null });
      else if (shown?.id !== labelling.picture.id || shown?.imageId !== labelling.picture.imageId) this.#showPicture();
    }
    if (edits.some(({ table }) => table === "classes")) this.masks.refresh();
    if (this.pictureIndex?.update(edits)) {
      this.masks.refresh();
      this.marks.schedule();
    }
    const lost = session.selected.filter((id) => !this.store.document.objects.has(id));
    if (lost.length) session.set({ selected: session.selected.filter((id) => !lost.includes(id)) });
    if (session.editing && !this.store.document.objects.has(session.editing)) session.set({ editing: null });
    if (kind === "amend") this.#tellAnswer(edits);
  }

  #tellAnswer(edits) {
    for (const { table, before, after } of edits)
      if (table === "objects" && before?.pending && after && !after.pending && after.picture === this.session.picture && after.mask)
        this.labelling.tell(texts.status.found(after.area, after.score ?? 0));
  }

  #sessionChanged(changed) {
    const { session } = this;
    if (changed.has("picture")) this.#showPicture();
    if (changed.has("model")) this.queue.modelChanged();
    if (changed.has("decode")) this.decoding.decode = session.decode;
    if (["selected", "opacity", "colourBy", "masksHidden", "editing", "semantic"].some((key) => changed.has(key))) this.masks.refresh();
    if (["hovering", "tool", "selected", "editing", "brushRadius", "masksHidden"].some((key) => changed.has(key))) this.marks.schedule();
    if (changed.has("theme")) applyTheme(session.theme);
    if (changed.has("online") && session.online) this.labelling.tell(texts.service.back);
  }

  // ---- History

  undo() {
    const change = this.store.undo();
    this.#afterHistory(change, change ? texts.status.undone(texts.changes[change.label]) : texts.status.nothingToUndo);
  }

  redo() {
    const change = this.store.redo();
    this.#afterHistory(change, change ? texts.status.redone(texts.changes[change.label]) : texts.status.nothingToRedo);
  }

  #afterHistory(change, text) {
    this.hover.clear();
    this.labelling.tell(text);
    if (!change) return;
    // Show what has changed, also where it is on another picture.
    const touched = change.edits.map(({ table, id, before, after }) => (table === "objects" ? (before ?? after).picture : table === "pictures" ? id : null)).filter(Boolean);
    const shown = touched.find((id) => this.store.document.pictures.has(id));
    if (shown && !touched.includes(this.session.picture)) this.openPicture(shown);
    this.queue.advance();
    this.segmenter.sendPending();
  }

  // ---- Tools and options

  setTool(tool) {
    this.tool.cancel?.();
    this.hover.clear();
    this.session.set({ tool });
    this.labelling.tell(texts.status.tool(texts.tools[tool]));
  }

  flipSign() {
    this.session.set({ sign: this.session.sign ? 0 : 1 });
    this.labelling.tell(texts.status.sign(this.session.sign));
  }

  resizeBrush(factor) {
    const brushRadius = Math.min(MAX_BRUSH_PX, Math.max(MIN_BRUSH_PX, Math.round(10 * this.session.brushRadius * factor) / 10));
    this.session.set({ brushRadius });
  }

  toggleMasks() {
    this.session.set({ masksHidden: !this.session.masksHidden });
    this.labelling.tell(texts.status.masks(this.session.masksHidden));
  }

  toggleHover() {
    this.hover.clear();
    this.session.set({ hover: !this.session.hover });
    this.labelling.tell(texts.status.hover(this.session.hover));
  }

  addClass() {
    const number = this.store.document.classes.size, made = newClass(texts.classes.newName(number + 1), number);
    this.store.run(commands.addClass, made);
    this.session.set({ classId: made.id });
    return made;
  }

  removeClass(id) {
    const heir = this.store.document.listClasses().find((record) => record.id !== id);
    if (heir) this.store.run(commands.removeClass, id, heir.id);
  }

  chooseClass(index) {
    const record = this.store.document.listClasses()[index];
    if (record) this.labelling.setClass(record.id);
  }

  /** Move the cross that stands for the pointer where there is none. */
  moveCursor(dx, dy, event) {
    const { picture } = this.labelling, { width, height } = this.viewer.size, slow = event?.shiftKey ? SLOW_STEP : 1;
    const [x, y] = this.viewer.toScreen(this.cursor ?? this.viewer.toPicture([width / 2, height / 2]));
    const [left, top] = [x + dx / slow, y + dy / slow];
    if (left < 20 || top < 20 || left > width - 20 || top > height - 20) this.viewer.pan(-8 * dx, -8 * dy);
    const place = this.viewer.toPicture([left, top]);
    this.cursor = [Math.min(Math.max(0, place[0]), picture.width - 1), Math.min(Math.max(0, place[1]), picture.height - 1)];
    this.tool.hover?.(this.cursor, event);
    this.marks.schedule();
    this.labelling.tell(texts.status.cursor(this.cursor));
  }

  clickCursor(label) {
    if (!this.cursor) return this.moveCursor(0, 0, null);
    const place = this.cursor.map((value) => Math.round(10 * value) / 10);
    if (this.session.tool === "select") return this.tool.release(place, place, { isDrag: false, shift: label === 0 });
    if (["brush", "erase"].includes(this.session.tool)) return this.labelling.paint([place], this.tool.radius, (this.session.tool === "erase") !== (label === 0));
    this.labelling.addPoint(place, label);
  }

  // ---- Finding

  /** Find everything. AIS answers in seconds. What takes longer is a job, which goes on where the page is closed. */
  async findEverything(objectSize = null) {
    const { picture, classId } = this.labelling, { model } = this.session, isQuick = this.session.chosenModel?.automatic?.includes("ais") ?? true;
    if (this.runs.isRunning(picture.id)) return;
    await this.#busy("everything", async (imageId, signal) => {
      if (!isQuick && (await this.#startRun(picture.id, { imageId, classId, model, objectSize }))) return;
      const { objects, job } = await findEverything({ client: this.client, imageId, picture: picture.id, classId, model, objectSize, signal });
      if (job) return this.runs.adopt(picture.id, job, classId);
      const fresh = withoutKnown(objects, this.store.document.objectsOf(picture.id));
      this.store.run(commands.addObjects, fresh, "automatic");
      this.labelling.tell(texts.status.foundObjects(fresh.length));
    });
  }

  /** Returns whether the service takes jobs. */
  async #startRun(id, run) {
    try {
      await this.runs.start(id, run);
      return true;
    } catch (problem) {
      if (problem.status === 403) return false; // the operator allows none
      throw problem;
    }
  }

  async findSimilar() {
    const examples = this.labelling.selected.filter(({ mask, state }) => mask && state !== "suggested");
    if (!examples.length) return this.labelling.tell(texts.find.similarHint);
    const { picture } = this.labelling;
    await this.#busy("similar", async (imageId, signal) => {
      const found = await findSimilar({ client: this.client, imageId, picture: picture.id, examples, model: this.session.model, signal });
      const fresh = withoutKnown(found, this.labelling.objects);
      this.store.run(commands.addObjects, fresh, "similar");
      if (fresh.length) this.labelling.nextSuggestion(null);
      else this.labelling.tell(texts.status.foundObjects(0));
    });
  }

  async findClasses() {
    const { picture } = this.labelling, semantic = this.session.models.filter(({ kind }) => kind === "semantic");
    const model = semantic.find(({ name }) => name === this.session.semanticModel) ?? semantic.find((one) => one.default) ?? semantic[0];
    if (!model) return this.labelling.tell(texts.find.noSemantic);
    await this.#busy("semantic", async (imageId, signal) => {
      const found = await findClasses({ client: this.client, imageId, model: model.name, signal });
      this.session.set({ semantic: { picture: picture.id, ...found } });
      this.labelling.tell(texts.status.foundObjects(found.classes.length));
    });
  }

  /** Take a class of the semantic overlay as an object. */
  takeClass(found) {
    const { semantic } = this.session, made = toObject(this.store.document, semantic.picture, found, semantic.model);
    this.store.run(commands.importLabels, made);
    this.labelling.select([made.objects[0].id]);
  }

  async #busy(kind, act) {
    const { picture } = this.labelling;
    if (!picture || this.session.busy) return;
    const controller = new AbortController();
    this.session.set({ busy: { text: texts.find.searching[kind], cancel: () => controller.abort() }, problem: null });
    try {
      await act(await this.queue.upload(picture.id), controller.signal);
    } catch (problem) {
      if (controller.signal.aborted) this.labelling.tell(texts.status.stopped);
      else {
        if (isAway(problem)) this.segmenter.lost();
        this.showProblem(problem);
      }
    } finally {
      this.session.set({ busy: null });
    }
  }

  async #hoverMask(point) {
    const { picture } = this.labelling;
    if (!picture?.imageId) return null;
    const body = { image_id: picture.imageId, model: this.session.model, format: "rle", select: "best", prompts: [{ points: [point] }] };
    const [mask] = (await this.decoding.segment(body)).results[0].masks;
    return mask.area ? answerFields(mask) : null;
  }

  // ---- Keys

  /** Run the action of a key, if it has one. Returns whether it had. */
  press(event) {
    const { target } = event, isText = target.matches?.("input:not([type=range], [type=checkbox], [type=color], [type=radio]), textarea, [contenteditable]");
    if (this.session.dialog) return false;
    if (isText) return false;
    const key = keyOf(event), name = key && actionOf(key, actions, this.session.keys);
    // A control that has the focus has its own keys.
    if (!name || (["Enter", "Space"].includes(key) && target.closest?.("button, a, summary, select, [role=option]")) || (/^(Left|Right|Up|Down|PageUp|PageDown|Home|End)$/.test(key) && target.closest?.("select, input"))) return false;
    if (/^[A-Z0-9]$/.test(key) && target.closest?.("select")) return false; // it looks for an entry
    if (/Left|Right|Up|Down/.test(key) && target.closest?.("[role=listbox], [role=tablist], [role=radiogroup]")) return false;
    this.run(name, event);
    return true;
  }

  run(name, event = null) {
    const action = actionByName.get(name);
    if (action.isOn(this)) return action.run(this, event);
  }
}

function makeInput(fields) {
  return Object.assign(document.createElement("input"), { type: "file", ...fields });
}

/** theme: "system", "light" or "dark". */
export function applyTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
