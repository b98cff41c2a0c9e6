/** Follows the objects of a clip along one axis, by a job of the service, and brings what it finds onto the frames. */

import { area, boundingBox } from "../../js/src/masks/runs.js";
import { runsOf } from "../state/masks.js";
import { newObject } from "../state/new_records.js";
import { clipOf, framesOf, isFound, newPrompts, numberTracks, promptsOn, updateClip } from "./clip.js";

/**
 * @typedef {object} Result What the job found on a frame.
 * @property {number} line of the results that it comes from; a later one counts
 * @property {{object_id: number, mask: import("../state/document.js").Rle, score: number}[]} objects
 * @property {{object_id: number, reason: string}[]} missing
 * @property {{object_id: number, reason: string}[]} ends
 */

/** Events: `change`, whenever results, the job or the problem have changed. */
export class Propagation extends EventTarget {
  /** file: id of the clip's file. */
  constructor({ client, store, file, axis }) {
    super();
    Object.assign(this, { client, store, file, axis });
    /** @type {Map<number, Result>} */
    this.results = new Map();
    /** @type {import("../../js/src/types.js").Job | null} */
    this.job = null;
    this.problem = null;
    this.controller = null;
    this.isSending = false;
    this.isStopWanted = false; // before the service has answered that there is a job
    this.lines = 0;
  }

  get clip() {
    return clipOf(this.store.document, this.file);
  }

  /** The job that the document has, which outlasts a reload. */
  get saved() {
    return this.clip?.jobs[this.axis] ?? null;
  }

  get isRunning() {
    return this.isSending || Boolean(this.controller);
  }

  /** Whether the job failed or was stopped, and can go on. */
  get canRetry() {
    return !this.isRunning && ["failed", "cancelled"].includes(this.job?.state);
  }

  /** Whether there are prompts that the job does not have yet. */
  get hasNews() {
    const { saved } = this;
    for (const [frame, { id }] of framesOf(this.store.document, this.file, this.axis))
      for (const { track, mask } of promptsOn(this.store.document, id)) if (saved?.sent[`${track}@${frame}`] !== mask.counts) return true;
    return false;
  }

  /**
   * Send what is new: as a job, or as corrections of the one that is there. Only what they change is made again.
   * @param {{direction?: "forward" | "backward" | "both", model?: string | null}} [options]
   */
  async send({ direction = "both", model = null } = {}) {
    numberTracks(this.store, this.file, this.axis);
    const { saved } = this, isOpen = saved && !["failed", "cancelled"].includes(this.job?.state);
    const { objects, sent } = newPrompts(this.store.document, this.file, this.axis, isOpen ? saved.sent : {});
    if (!objects.length || this.isSending) return;
    Object.assign(this, { problem: null, isSending: true, isStopWanted: false });
    this.#tell();
    try {
      if (isOpen) {
        this.job = await this.client.addPrompts(saved.id, { objects });
        this.lines = this.job.progress.done;
      } else {
        const { kind, window } = this.clip, params = { direction, objects, ...(kind === "volume" ? { axis: this.axis, ...(window ? { window } : {}) } : {}) };
        this.job = await this.client.submitJob({ kind: kind === "volume" ? "volume" : "video", ...(model ? { model } : {}), input: { file_id: this.file }, params });
        this.results.clear();
        this.lines = 0;
      }
      updateClip(this.store, this.file, { jobs: { ...this.clip.jobs, [this.axis]: { id: this.job.job_id, sent } } });
    } catch (problem) {
      this.isSending = false;
      return this.#fail(problem);
    }
    const following = this.follow();
    this.isSending = false;
    if (this.isStopWanted) this.cancel();
    return following;
  }

  /** Read the results of the saved job, from where they were read to, until it has ended. */
  async follow() {
    const { saved } = this;
    if (!saved) return;
    this.controller?.abort();
    const controller = (this.controller = new AbortController()), { signal } = controller;
    this.#tell();
    try {
      this.job ??= await this.client.getJob(saved.id, { signal });
      const lines = this.client.jobResults(saved.id, { from: this.lines, signal });
      for (;;) {
        const { done, value } = await lines.next();
        if (signal.aborted) return;
        if (done) this.job = value ?? this.job;
        else this.#take(value);
        if (done) break;
      }
      if (this.job.state === "failed") this.problem = this.job.error;
    } catch (problem) {
      if (!signal.aborted) this.#fail(problem);
    } finally {
      if (this.controller === controller) this.controller = null;
      this.#tell();
    }
  }

  /** Stop the job. What it has found stays. */
  async cancel() {
    if (this.isSending) this.isStopWanted = true;
    const { saved } = this;
    if (!saved || this.isSending) return;
    try {
      this.job = await this.client.cancelJob(saved.id);
    } catch (problem) {
      this.#fail(problem);
    }
  }

  /** Go on with a job that failed or was stopped. */
  async retry() {
    const { saved } = this;
    if (!saved) return;
    this.problem = null;
    try {
      this.job = await this.client.retryJob(saved.id);
    } catch (problem) {
      return this.#fail(problem);
    }
    return this.follow();
  }

  /** Read no more; the job goes on. */
  leave() {
    this.controller?.abort();
    this.controller = null;
  }

  #take(line) {
    const frame = line.frame ?? line.slice;
    this.results.set(frame, { line: this.lines++, objects: line.objects, missing: line.missing ?? [], ends: line.ends ?? [] });
    const picture = framesOf(this.store.document, this.file, this.axis).get(frame);
    if (picture) this.show(picture);
    this.#tell();
  }

  /**
   * Bring what was found onto a frame. What a person has made or corrected stays; what was found before and is not found
   * any more goes. It is no change that could be undone.
   */
  show(picture) {
    const { source: { frame }, shown } = picture, result = this.results.get(frame), jobId = this.saved?.id;
    if (!result || (shown?.job === jobId && shown.line >= result.line)) return;
    const { document } = this.store, known = new Map(document.objectsOf(picture.id).map((object) => [object.track, object]));
    for (const found of result.objects) {
      const track = String(found.object_id), object = known.get(track);
      const runs = runsOf(found.mask), fields = { mask: found.mask, score: found.score, area: area(runs), box: boundingBox(runs, found.mask.size[0]) };
      if (!object) this.store.plant("objects", newObject(picture.id, this.#classOf(track), { ...fields, track, model: this.job?.model ?? null, madeBy: "propagation" }));
      else if (isFound(object)) this.store.amend("objects", object.id, fields);
      known.delete(track);
    }
    for (const object of known.values()) if (isFound(object)) this.store.uproot("objects", object.id);
    this.store.amend("pictures", picture.id, { shown: { job: jobId, line: result.line } });
  }

  /** The class that a person gave the object on any frame. */
  #classOf(track) {
    const { document } = this.store;
    for (const { id } of framesOf(document, this.file, this.axis).values())
      for (const object of promptsOn(document, id)) if (object.track === track && document.classes.has(object.class)) return object.class;
    return document.listClasses()[0]?.id;
  }

  #fail(problem) {
    this.problem = problem;
    // A job that the service has forgotten is made anew by the next prompts.
    if (problem?.status === 404) updateClip(this.store, this.file, { jobs: Object.fromEntries(Object.entries(this.clip.jobs).filter(([axis]) => Number(axis) !== this.axis)) });
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
