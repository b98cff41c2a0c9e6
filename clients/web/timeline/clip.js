/**
 * Clips: videos, stacks and volumes of the service, of which single frames and slices are pictures of the document.
 *
 * @typedef {object} Clip Kept with each picture that is a frame of it; the same in all of them.
 * @property {string} file file_id
 * @property {string} name
 * @property {"video" | "frames" | "volume"} kind
 * @property {string} format such as "mp4" or "dicom"
 * @property {number | null} fps
 * @property {number[] | null} spacing millimetres from slice to slice, row to row, column to column
 * @property {{axis: number, frames: number, width: number, height: number}[]} axes
 * @property {[number, number] | null} window of a volume, the values that are black and white; null: the service chooses
 * @property {Record<number, ClipJob>} jobs by axis
 * @property {number} version rises with every change
 *
 * @typedef {object} ClipJob
 * @property {string} id job_id
 * @property {Record<string, string>} sent the masks that the job has as prompts: `track@frame` -> run lengths
 */

import { newPicture } from "../state/new_records.js";

/** Objects with a lower predicted IoU are worth a look. */
export const UNCERTAIN_BELOW = 0.8;

/** @param {import("../../js/src/types.js").StoredFile} stored @returns {Clip} */
export function newClip({ file_id: file, kind, format, fps, spacing, axes }, name) {
  return { file, name, kind, format, fps, spacing, axes, window: null, jobs: {}, version: 0 };
}

/** The clip of a file as it was changed last, or null. @returns {Clip | null} */
export function clipOf(document, file) {
  let latest = null;
  for (const { source, clip } of document.pictures.values())
    if (source?.file === file && clip && clip.version >= (latest?.version ?? 0)) latest = clip;
  return latest;
}

/** Change fields of a clip, in all pictures that are its frames. */
export function updateClip(store, file, fields) {
  const before = clipOf(store.document, file);
  if (!before) return;
  const clip = { ...before, ...fields, version: before.version + 1 };
  for (const { id, source } of [...store.document.pictures.values()]) if (source?.file === file) store.amend("pictures", id, { clip });
}

/** The pictures that are frames of a clip along an axis, by frame. @returns {Map<number, import("../state/document.js").Picture>} */
export function framesOf(document, file, axis) {
  const frames = new Map();
  for (const picture of document.pictures.values())
    if (picture.source?.file === file && picture.source.axis === axis) frames.set(picture.source.frame, picture);
  return frames;
}

/** Name of a frame, in lists and in exported files. */
export function frameName({ name, kind, axes }, frame, axis) {
  const digits = String(axes[axis].frames - 1).length, number = String(frame).padStart(digits, "0");
  return kind === "volume" ? `${name} ${"zyx"[axis]}${number}` : `${name} ${number}`;
}

/** A picture for a frame. */
export function newFrame(clip, frame, axis) {
  const { width, height } = clip.axes[axis];
  return newPicture(frameName(clip, frame, axis), { width, height, source: { file: clip.file, frame, axis }, clip });
}

/** The picture of a frame: the one that is there, or a new one that is planted. */
export function plantFrame(store, clip, frame, axis) {
  const known = framesOf(store.document, clip.file, axis).get(frame);
  if (known) return known;
  const picture = newFrame(clip, frame, axis);
  store.plant("pictures", picture);
  return picture;
}

/** Whether an object is as propagation found it: nobody has corrected it. */
export const isFound = ({ madeBy, prompt, base }) => madeBy === "propagation" && !prompt && !base;

/** Objects of a picture that a person has made or corrected, and accepted. */
export const promptsOn = (document, pictureId) =>
  document.objectsOf(pictureId).filter((object) => object.state === "done" && object.mask && object.area && !object.pending && !isFound(object));

/**
 * Number the objects that are to be followed: those of a person without a track. Each object that is made on a frame is a
 * new one; who corrects what was found keeps its track.
 */
export function numberTracks(store, file, axis) {
  const frames = [...framesOf(store.document, file, axis)].sort(([a], [b]) => a - b);
  const used = frames.flatMap(([, { id }]) => store.document.objectsOf(id).map(({ track }) => Number(track) || 0));
  let next = 1 + Math.max(0, ...used);
  for (const [, { id }] of frames)
    for (const object of promptsOn(store.document, id)) if (object.track === null) store.amend("objects", object.id, { track: String(next++) });
}

/**
 * The prompts that a job does not have yet: masks of objects on frames, as the service takes them.
 * @param {Record<string, string>} sent see ClipJob
 * @returns {{objects: object[], sent: Record<string, string>}} sent: with these
 */
export function newPrompts(document, file, axis, sent = {}) {
  const objects = new Map(), all = { ...sent };
  for (const [frame, { id }] of [...framesOf(document, file, axis)].sort(([a], [b]) => a - b))
    for (const object of promptsOn(document, id)) {
      const key = `${object.track}@${frame}`;
      if (!(Number(object.track) > 0) || all[key] === object.mask.counts) continue;
      all[key] = object.mask.counts;
      if (!objects.has(object.track)) objects.set(object.track, { object_id: Number(object.track), name: document.classes.get(object.class)?.name, prompts: [] });
      objects.get(object.track).prompts.push({ frame, mask: object.mask });
    }
  return { objects: [...objects.values()], sent: all };
}

/**
 * What the time line shows of each frame.
 * @param {Map<number, Result>} results
 * @returns {{frame: number, prompted: boolean, found: boolean, uncertain: boolean, ended: boolean, reviewed: boolean, score: number | null}[]}
 */
export function frameStates(document, { file, axes }, axis, results) {
  const pictures = framesOf(document, file, axis);
  return Array.from({ length: axes[axis].frames }, (_, frame) => {
    const picture = pictures.get(frame), result = results.get(frame);
    const scores = (result?.objects ?? []).map(({ score }) => score), score = scores.length ? Math.min(...scores) : null;
    return {
      frame,
      prompted: Boolean(picture && promptsOn(document, picture.id).length),
      found: scores.length > 0,
      uncertain: (score !== null && score < UNCERTAIN_BELOW) || Boolean(result?.missing.length),
      ended: Boolean(result?.ends.length),
      reviewed: Boolean(picture?.reviewed),
      score,
    };
  });
}
