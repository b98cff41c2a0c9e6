/** Prompts as requests: pure functions of an object. */

import { iou } from "../../js/src/masks/runs.js";
import { runsOf } from "../state/masks.js";

let revision = Date.now();

/** A number that no other request has. */
export const nextRevision = () => ++revision;

const isEmpty = (prompt) => !prompt || (!prompt.points.length && !prompt.box);

/** The prompt with one more point. */
export function withPoint(prompt, point, label) {
  const { points = [], labels = [], box = null } = prompt ?? {};
  return { points: [...points, point], labels: [...labels, label], box };
}

/** The prompt with another box. */
export function withBox(prompt, box) {
  const { points = [], labels = [] } = prompt ?? {};
  return { points, labels, box };
}

/**
 * The service's form of an object's prompt. An edited mask is refined as it is. Otherwise the mask so far helps from the
 * second point on, unless the box is new: then it may be of another object.
 */
export function toRequest({ prompt, base, mask, maskId, refines }, { maskIdExpired = false } = {}) {
  const { points, labels, box } = prompt ?? { points: [], labels: [], box: null };
  const request = points.length ? { points, labels } : {};
  if (box) request.box = box;
  if (base) request.mask = base;
  else if (refines && !maskIdExpired && maskId) request.mask_id = maskId;
  else if (refines && maskIdExpired && mask) request.mask = mask;
  return request;
}

/** The fields of an object that has a new prompt and waits for its mask. */
export const pendingFields = (object, prompt, model) => ({
  prompt,
  model,
  revision: nextRevision(),
  pending: true,
  candidates: [],
  candidate: 0,
  refines: !isEmpty(object.prompt) && object.prompt.box === prompt.box && object.model === model && Boolean(object.mask),
});

/** A mask of the service as the fields of an object. */
export const answerFields = ({ mask, box, area, score, mask_id: maskId }) => ({ mask, box, area, score, maskId });

/** The masks that the service offers, the chosen one among them. Returns {candidates, candidate}. */
export function toCandidates(chosen, masks) {
  const candidates = masks.map(answerFields);
  const likeness = candidates.map(({ mask }) => iou(runsOf(mask), runsOf(chosen)));
  return { candidates, candidate: likeness.indexOf(Math.max(...likeness)) };
}
