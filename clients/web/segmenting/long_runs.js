/**
 * Finding everything by a job of the service, where it may take longer than a person waits: the job goes on if the page is
 * closed, or the connection lost. The picture remembers its job, so that the objects are there once the page is opened again.
 *
 * The state of a picture's run in the session: {state: "queued" | "running", since: ms}.
 */

import { UNREACHABLE } from "../../js/src/problem.js";
import * as commands from "../state/commands.js";
import { toObjects, withoutKnown } from "./whole_image.js";

export class LongRuns {
  /** onDone(picture id, number of new objects), onProblem(problem), onStopped(). */
  constructor({ client, store, session, onDone, onProblem, onStopped }) {
    Object.assign(this, { client, store, session, onDone, onProblem, onStopped });
    this.following = new Map(); // picture id -> AbortController
  }

  /** Whether the picture has a run that is not done. */
  isRunning(id) {
    return Boolean(this.store.document.pictures.get(id)?.run);
  }

  /** Submit a job for a picture. Rejects with a Problem where the service does not take it. */
  async start(id, { imageId, classId, model, objectSize = null }) {
    const options = objectSize ? { object_size: objectSize } : {};
    const job = await this.client.submitJob({
      kind: "batch", model, priority: "interactive", input: { image_ids: [imageId] }, params: { operation: "automatic", options },
    });
    this.adopt(id, job, classId);
  }

  /** Follow a job that the service has made of a request. */
  adopt(id, job, classId) {
    this.store.amend("pictures", id, { run: { job: job.job_id, class: classId } });
    this.follow(id);
  }

  /** Go on with what an earlier visit has begun. */
  resume() {
    for (const { id } of this.store.document.listPictures()) if (this.isRunning(id)) this.follow(id);
  }

  /** Wait for the run of a picture, and put what it has found into the document. */
  async follow(id) {
    const { run } = this.store.document.pictures.get(id) ?? {};
    if (!run || this.following.has(id)) return;
    const controller = new AbortController(), { signal } = controller;
    this.following.set(id, controller);
    try {
      const [job, line] = await this.#wait(id, run.job, signal);
      if (job.state === "succeeded" && line && !line.error) this.#take(id, run, line);
      else if (job.state === "cancelled") this.onStopped();
      else this.onProblem(line?.error ?? job.error);
      this.#forget(id);
    } catch (problem) {
      if (signal.aborted) return;
      if (problem.type === UNREACHABLE || problem.status === 503) return; // followed again once the service is back
      this.#forget(id);
      this.onProblem(problem);
    } finally {
      if (this.following.get(id) === controller) this.following.delete(id);
      this.#tell(id, null);
    }
  }

  /** Returns the job once it has ended, and its line of results. */
  async #wait(id, jobId, signal) {
    const job = await this.client.getJob(jobId, { signal });
    this.#tell(id, job);
    for await (const event of this.client.jobEvents(jobId, { signal })) this.#tell(id, event.job);
    const lines = this.client.jobResults(jobId, { signal, follow: false }), first = await lines.next();
    return [await this.client.getJob(jobId, { signal }), first.done ? null : first.value];
  }

  #take(id, run, line) {
    const { document } = this.store, classId = document.classes.has(run.class) ? run.class : document.listClasses()[0].id;
    const fresh = withoutKnown(toObjects(line, id, classId), document.objectsOf(id));
    this.store.run(commands.addObjects, fresh, "automatic");
    this.onDone(id, fresh.length);
  }

  /** Stop the run of a picture. */
  async stop(id) {
    const { run } = this.store.document.pictures.get(id) ?? {};
    if (!run) return;
    try {
      await this.client.cancelJob(run.job); // the events tell when it has stopped
    } catch (problem) {
      this.onProblem(problem);
    }
  }

  #forget(id) {
    this.store.amend("pictures", id, { run: null });
  }

  #tell(id, job) {
    const runs = new Map(this.session.runs), isOn = job && ["queued", "running"].includes(job.state);
    if (isOn) runs.set(id, { state: job.state, since: Date.parse(job.created_at) });
    else runs.delete(id);
    this.session.set({ runs });
  }
}
