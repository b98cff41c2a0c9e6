/**
 * Sends the prompts of objects and adds the answers to them. A prompt is in the document before it is sent. If the service
 * is away, the object stays pending and is sent again once it is back, also after a reload.
 */

import { UNREACHABLE } from "../../js/src/problem.js";
import { answerFields, toCandidates, toRequest } from "./prompts.js";

const POLL_MS = 2000; // while the service is away

/** Whether the same request may succeed later. */
export const isAway = (problem) => problem.type === UNREACHABLE || problem.status === 503 || problem.status === 429;

export class Segmenter {
  /** decoding: the client's Segmenter, which asks the service or decodes here. */
  constructor({ client, decoding, store, session, queue, onRefused, onBack = async () => {} }) {
    Object.assign(this, { client, decoding, store, session, queue, onRefused, onBack });
    this.sent = new Map(); // object id -> revision that is on its way
    this.polling = null;
  }

  /** Ask for the mask of an object's latest prompt. change: that made the prompt, taken back where it is refused. */
  async send(id, change = null) {
    const object = this.store.document.objects.get(id);
    if (!object?.pending || this.sent.get(id) === object.revision) return;
    const { revision } = object;
    this.sent.set(id, revision);
    try {
      const start = performance.now();
      const { masks: [best], by } = await this.#segment(object, "best");
      this.session.set({ roundTripMs: performance.now() - start, decodedBy: by, online: true });
      this.store.amend("objects", id, { ...answerFields(best), pending: false }, revision);
      if (isAmbiguous(object)) this.#offerCandidates(object, best);
    } catch (problem) {
      this.#fail(id, revision, problem, change);
    } finally {
      if (this.sent.get(id) === revision) this.sent.delete(id);
    }
  }

  /** Send all that is pending: at the start, and when the service is back. */
  sendPending() {
    for (const object of this.store.document.objects.values()) if (object.pending) this.send(object.id);
  }

  async #offerCandidates(object, best) {
    try {
      const { masks } = await this.#segment(object, "all");
      this.store.amend("objects", object.id, toCandidates(best.mask, masks), object.revision);
    } catch {
      // The best one is there; the others are asked for again with the next click.
    }
  }

  /** @returns {Promise<{masks: object[], by: "server" | "browser"}>} */
  async #segment(object, select) {
    try {
      return await this.#request(object, select, {});
    } catch (problem) {
      if (problem.status === 404 && problem.code === "image_not_found") {
        this.queue.forget(object.picture);
        return this.#request(object, select, { maskIdExpired: true });
      }
      if (!/mask_id$/.test(problem.field ?? "")) throw problem;
      return this.#request(object, select, { maskIdExpired: true });
    }
  }

  async #request(object, select, options) {
    const imageId = await this.queue.upload(object.picture);
    const body = { image_id: imageId, model: object.model, format: "rle", select, prompts: [toRequest(object, options)] };
    const { results: [{ masks }], decoded } = await this.decoding.segment(body);
    return { masks, by: decoded.by };
  }

  #fail(id, revision, problem, change) {
    if (isAway(problem)) return this.#wait();
    const current = this.store.document.objects.get(id);
    if (current?.revision === revision && !(change && this.store.takeBack(change)))
      this.store.amend("objects", id, { pending: false }, revision);
    this.onRefused(problem);
  }

  /** The service is away: look for it until it is back, then send again. */
  #wait() {
    this.session.set({ online: false });
    if (this.polling) return;
    let isAsking = false;
    this.polling = setInterval(async () => {
      if (isAsking) return;
      isAsking = true;
      try {
        await this.client.models();
        await this.onBack();
      } catch {
        return;
      } finally {
        isAsking = false;
      }
      clearInterval(this.polling);
      this.polling = null;
      this.session.set({ online: true });
      this.queue.retry();
      this.sendPending();
    }, POLL_MS);
  }

  /** Look for the service now and then, because something else found it away. */
  lost() {
    this.#wait();
  }
}

/** One click, without a box or a mask: the service has three candidates for it. */
const isAmbiguous = ({ prompt, base, refines }) =>
  !base && !refines && prompt?.points.length === 1 && prompt.labels[0] === 1 && !prompt.box;
