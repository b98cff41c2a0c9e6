/** The time line of the open clip: going to frames, following objects, looking over what was found. */

import { clipOf, framesOf, frameStates, newClip, plantFrame, updateClip } from "./clip.js";
import { Propagation } from "./propagation.js";
import { timeline as texts } from "../texts/en_timeline.js";

/** Files that are clips by their names; what they are is found out by the service. */
export const CLIP_ENDINGS = ".mp4,.m4v,.mov,.3gp,.webm,.mkv,.avi,.ts,.mpg,.mpeg,.wmv,.flv,.ogv,.nii,.nii.gz,.nrrd,.mha,.mgh,.mgz,.zip";

const ENDINGS = new RegExp(`(${CLIP_ENDINGS.replaceAll(".", "\\.").replaceAll(",", "|")})$`, "i");

export const looksLikeClip = ({ name }) => ENDINGS.test(name) && !/\.zarr\.zip$/i.test(name);

/** Formats of a job's results, with the endings of their files. */
const FORMATS = { coco: ".json", png: ".zip", tiff: ".zip", tiff_stack: ".tif", nifti: ".nii.gz", nrrd: ".nrrd", mha: ".mha", dicom_seg: ".dcm", mp4: ".mp4", sheet: ".png" };
const SETTLE_MS = 250;
const VOLUME_FORMATS = ["nifti", "nrrd", "mha", "tiff_stack", "coco", "sheet"];
const VIDEO_FORMATS = ["mp4", "coco", "png", "tiff", "tiff_stack", "sheet"];

export class Timeline {
  /** files: what keeps the user's files. */
  constructor({ client, store, session, files, queue, openPicture, showProblem }) {
    Object.assign(this, { client, store, session, files, queue, openPicture, showProblem });
    this.propagations = new Map();
    this.scrubbed = null; // the frame that is shown while the slider moves, or a key is held
    this.settling = null; // opens it once it rests
    session.addEventListener("change", ({ detail }) => { if (detail.has("picture")) this.#opened(); });
  }

  get picture() {
    return this.store.document.pictures.get(this.session.picture) ?? null;
  }

  get clip() {
    const file = this.picture?.source?.file;
    return file ? clipOf(this.store.document, file) : null;
  }

  get axis() {
    return this.picture.source.axis;
  }

  get frame() {
    return this.scrubbed ?? this.picture.source.frame;
  }

  get count() {
    return this.clip.axes[this.axis].frames;
  }

  /** What follows objects along the open axis. */
  get propagation() {
    const { file, axis } = this.picture.source, key = `${file} ${axis}`;
    if (!this.propagations.has(key)) {
      const made = new Propagation({ client: this.client, store: this.store, file, axis });
      made.addEventListener("change", () => this.#redraw());
      this.propagations.set(key, made);
      made.follow(); // of an earlier visit
    }
    return this.propagations.get(key);
  }

  get states() {
    return frameStates(this.store.document, this.clip, this.axis, this.propagation.results);
  }

  /** Upload a clip and show its first frame; of a volume the slice in the middle. */
  async open({ name, file }) {
    const controller = new AbortController(), busy = { text: texts.uploading(name), cancel: () => controller.abort() };
    this.session.set({ busy, problem: null });
    try {
      const stored = await this.client.uploadFile(file, { signal: controller.signal }), [first] = stored.axes;
      if (!first) return this.showProblem({ detail: texts.pictures(name), remedy: texts.picturesRemedy });
      const clip = clipOf(this.store.document, stored.file_id) ?? newClip(stored, name);
      this.openPicture(plantFrame(this.store, clip, stored.kind === "volume" ? first.frames >> 1 : 0, 0).id);
    } catch (problem) {
      this.showProblem(controller.signal.aborted ? { name: "AbortError" } : problem);
    } finally {
      this.session.set({ busy: null });
    }
  }

  /** Open all pages of a picture's file. */
  async openStack(picture) {
    const file = await this.files.read(picture.id);
    if (file) await this.open({ name: picture.name, file });
    else this.showProblem({ detail: texts.fileGone(picture.name), remedy: texts.fileGoneRemedy });
  }

  /** Show the frame in passing, while the slider moves. */
  scrub(frame) {
    this.scrubbed = frame;
    this.#redraw();
  }

  get scrubUrl() {
    if (this.scrubbed === null) return null;
    return this.client.frameUrl(this.clip.file, this.scrubbed, { axis: this.axis, window: this.clip.window ?? undefined, max: 1024 });
  }

  /** Go a frame further. isHeld: while the key repeats frames are shown in passing, and the last one is opened. */
  step(direction, isHeld = false) {
    const frame = Math.min(Math.max(0, this.frame + direction), this.count - 1);
    if (!isHeld) return frame === this.frame ? undefined : this.go(frame);
    this.scrub(frame);
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.scrubbed !== null && this.go(this.scrubbed), SETTLE_MS);
  }

  /** Open a frame. */
  go(frame, axis = this.axis) {
    clearTimeout(this.settling);
    this.scrubbed = null;
    const { clip } = this, last = clip.axes[axis].frames - 1;
    this.openPicture(plantFrame(this.store, clip, Math.min(Math.max(0, frame), last), axis).id);
    this.#redraw();
  }

  /** Slice along another axis: the one in the middle, or the one that was open. */
  setAxis(axis) {
    const known = [...framesOf(this.store.document, this.clip.file, axis).keys()];
    this.go(known[0] ?? this.clip.axes[axis].frames >> 1, axis);
  }

  /** Show the values from `low` to `high` of a volume, as jobs see them too. window: [low, high]; null: as the service chooses. */
  setWindow(window) {
    const { clip } = this, known = clip.window;
    if (window && !(window[0] < window[1])) return this.session.set({ status: texts.windowReversed });
    if (String(window) === String(known)) return;
    updateClip(this.store, clip.file, { window });
    // Each slice is another picture of the service now. Objects stay.
    for (const { id, source } of this.store.document.listPictures()) if (source?.file === clip.file) this.queue.forget(id);
    this.queue.advance();
  }

  /** Send what is marked, or the corrections. */
  follow(direction = "both") {
    return this.propagation.send({ direction, model: this.session.model });
  }

  /** Go to the next frame that nobody has looked at and whose objects are uncertain, or that lost one. */
  goToDoubt() {
    const doubtful = this.states.filter(({ uncertain, ended, reviewed }) => (uncertain || ended) && !reviewed).map(({ frame }) => frame);
    const next = doubtful.find((frame) => frame > this.frame) ?? doubtful[0];
    if (next === undefined) this.session.set({ status: texts.noDoubt });
    else this.go(next);
  }

  /** Say that the open frame is right, or not looked over yet. */
  setReviewed(reviewed) {
    this.store.amend("pictures", this.picture.id, { reviewed });
  }

  get formats() {
    const { kind, format } = this.clip;
    return kind === "volume" ? [...(format.startsWith("dicom") ? ["dicom_seg"] : []), ...VOLUME_FORMATS] : VIDEO_FORMATS;
  }

  /** The results of the job as a file. @returns {Promise<{blob: Blob, name: string} | null>} */
  async download(format) {
    try {
      const blob = await this.client.downloadResults(this.propagation.saved.id, { format });
      return { blob, name: `${this.clip.name.replace(/\.[^/]*$/, "")}-objects${FORMATS[format]}` };
    } catch (problem) {
      this.showProblem(problem);
      return null;
    }
  }

  #opened() {
    this.scrubbed = null;
    if (!this.clip) return;
    this.propagation.show(this.picture);
  }

  #redraw() {
    this.session.dispatchEvent(new CustomEvent("change", { detail: new Set(["timeline"]) }));
  }
}
