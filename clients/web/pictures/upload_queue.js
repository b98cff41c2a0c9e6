/**
 * Uploads pictures and has them encoded before the annotator gets there: the open one first, then those after it.
 *
 * The state of a picture in the session: waiting, uploading (progress 0 to 1), uploaded, encoding, ready, failed
 * (problem), away (the service does not answer: tried again).
 */

import { UNREACHABLE } from "../../js/src/problem.js";
import { clipOf } from "../timeline/clip.js";

const UPLOADS = 2; // at a time
const ENCODED_AHEAD = 4; // pictures after the open one; the service holds a bounded number of embeddings

export class UploadQueue {
  constructor({ client, store, session, files }) {
    Object.assign(this, { client, store, session, files });
    this.uploading = new Map(); // id -> promise
    this.encoded = new Map(); // picture id -> model
    this.encoding = null;
  }

  state(id) {
    return this.session.pictureStates.get(id)?.state ?? (this.store.document.pictures.get(id)?.imageId ? "uploaded" : "waiting");
  }

  /** Go on with what is next. Call it whenever the open picture, the list or the model has changed. */
  advance() {
    const order = this.#inTurn();
    for (const [place, picture] of order.entries()) {
      if (this.uploading.size >= UPLOADS) break;
      if (picture.source?.file && place > ENCODED_AHEAD) continue; // a clip has thousands of frames, and the service has them all
      if (!picture.imageId && !["failed", "away"].includes(this.state(picture.id))) this.upload(picture.id).catch(() => {}); // the picture's state tells
    }
    if (!this.encoding) this.#encodeNext(order);
  }

  /** Try again what failed, or waited for the service. */
  retry(id = null) {
    for (const [other, { state }] of this.session.pictureStates)
      if ((id === other || (!id && state === "away")) && ["failed", "away"].includes(state)) {
        this.encoded.delete(other);
        this.session.setPictureState(other, { state: this.store.document.pictures.get(other)?.imageId ? "uploaded" : "waiting", problem: null });
      }
    this.advance();
  }

  /** Forget that the service has the picture: it said that it does not. */
  forget(id) {
    this.encoded.delete(id);
    this.store.amend("pictures", id, { imageId: null });
    this.session.setPictureState(id, { state: "waiting" });
  }

  /** Make sure that the service has the picture. Rejects with a Problem. @returns {Promise<string>} its image_id */
  async upload(id) {
    const picture = this.store.document.pictures.get(id);
    if (picture?.imageId) return picture.imageId;
    if (!this.uploading.has(id)) this.uploading.set(id, this.#upload(id));
    return this.uploading.get(id);
  }

  async #upload(id) {
    this.session.setPictureState(id, { state: "uploading", progress: 0, problem: null });
    try {
      const { image_id: imageId, width, height, tiles = null, pages, hints } = await this.#send(id);
      this.store.amend("pictures", id, { imageId, width, height, tiles, pages, hints });
      this.session.setPictureState(id, { state: "uploaded" });
      return imageId;
    } catch (problem) {
      this.session.setPictureState(id, { state: problem.type === UNREACHABLE || problem.status === 503 ? "away" : "failed", problem });
      throw problem;
    } finally {
      this.uploading.delete(id);
      this.advance();
    }
  }

  async #send(id) {
    const { source } = this.store.document.pictures.get(id);
    if (source?.imageId) return this.client.getImage(source.imageId);
    if (source) return this.client.imageOfFrame(source.file, source.frame, { axis: source.axis, window: clipOf(this.store.document, source.file)?.window ?? undefined });
    const file = await this.files.read(id);
    if (!file) throw Object.assign(new Error(), { status: 0, code: "file_gone" });
    const onProgress = (sent, total) => this.session.setPictureState(id, { progress: sent / total });
    return this.client.uploadImage(file, { onProgress });
  }

  async #encodeNext(order) {
    const { model, picture: open } = this.session;
    const next = order.slice(0, 1 + ENCODED_AHEAD).find(({ id, imageId }) =>
      imageId && this.encoded.get(id) !== model && !["failed", "away"].includes(this.state(id)));
    if (!next || !open || !model) return;
    this.encoding = next.id;
    this.session.setPictureState(next.id, { state: "encoding" });
    try {
      // A prompt in the middle: it is answered once the picture is encoded, and costs nothing more.
      const { width, height } = next, points = [[width / 2, height / 2]], box = [width / 4, height / 4, (3 * width) / 4, (3 * height) / 4];
      const prompts = [this.session.takesPoints ? { points } : { box }];
      await this.client.segment({ image_id: next.imageId, model, prompts });
      this.encoded.set(next.id, model);
      this.session.setPictureState(next.id, { state: this.session.model === model ? "ready" : "uploaded", problem: null });
    } catch (problem) {
      if (problem.status === 404 && problem.code === "image_not_found") this.forget(next.id);
      else {
        const away = problem.type === UNREACHABLE || problem.status === 503;
        this.session.setPictureState(next.id, { state: away ? "away" : "failed", problem });
      }
    } finally {
      this.encoding = null;
      this.advance();
    }
  }

  /** The model has changed: what was encoded for another one is not ready. */
  modelChanged() {
    for (const [id, { state }] of this.session.pictureStates)
      if (state === "ready" && this.encoded.get(id) !== this.session.model) this.session.setPictureState(id, { state: "uploaded" });
    this.advance();
  }

  /** The open picture, those after it, then those before it. */
  #inTurn() {
    const pictures = this.store.document.listPictures(), at = pictures.findIndex(({ id }) => id === this.session.picture);
    return at < 0 ? pictures : [...pictures.slice(at), ...pictures.slice(0, at).reverse()];
  }
}
