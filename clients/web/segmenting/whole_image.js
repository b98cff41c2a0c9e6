/** Objects that the service finds without a prompt for each: everything, the similar, classes of pixels. */

import { iou } from "../../js/src/masks/runs.js";
import { runsOf } from "../state/masks.js";
import { classColour, newClass, newObject } from "../state/new_records.js";
import { answerFields } from "./prompts.js";

/**
 * Everything on the picture, by AIS or AMG.
 * @returns {Promise<{objects: object[]} | {job: object}>} objects of the document; or the job that the service has made of
 *   the request, because the picture is large
 */
export async function findEverything({ client, imageId, picture, classId, model, objectSize, signal }) {
  const body = { image_id: imageId, model, format: "rle", ...(objectSize ? { object_size: objectSize } : {}) };
  const answer = await client.automatic(body, { signal });
  return answer.job_id ? { job: answer } : { objects: toObjects(answer, picture, classId) };
}

/** What was found on a picture, as objects of the document. */
export const toObjects = (answer, picture, classId) =>
  answer.objects.map((found) => newObject(picture, classId, fieldsOf(found, answer.model, "automatic")));

/** What is like the examples, best first, as suggestions. @returns {Promise<object[]>} */
export async function findSimilar({ client, imageId, picture, examples, model, signal }) {
  const body = { image_id: imageId, model, format: "rle", examples: examples.map(({ mask }) => ({ mask })) };
  const answer = await client.similar(body, { signal });
  const found = answer.objects.filter(({ example }) => !example);
  const { class: classId } = examples[0];
  return found.map((object) =>
    newObject(picture, classId, { ...fieldsOf(object, answer.model, "similar"), state: "suggested", likeness: object.likeness }));
}

/** A class for every pixel. @returns {Promise<{model: string, classes: {name, colour, mask, box, area, fraction}[]}>} */
export async function findClasses({ client, imageId, model, signal }) {
  const answer = await client.semantic({ image_id: imageId, model, format: "rle" }, { signal });
  const fractions = Object.fromEntries(answer.classes.map((known) => [known.class, known.fraction]));
  const classes = answer.objects.map((object, at) =>
    ({ name: object.class, colour: classColour(at + 2), mask: object.mask, box: object.box, area: object.area, fraction: fractions[object.class] }));
  return { model: answer.model, classes };
}

/** A class of pixels as an object, with its class where there is none of that name yet. Returns {classes, objects}. */
export function toObject(document, picture, { name, mask, box, area }, model) {
  const known = document.listClasses().find((record) => record.name === name);
  const record = known ?? newClass(name, document.classes.size);
  const object = newObject(picture, record.id, { mask, box, area, model, madeBy: "automatic" });
  return { classes: known ? [] : [record], objects: [object] };
}

const fieldsOf = (found, model, madeBy) => ({ ...answerFields({ ...found, mask_id: null }), model, madeBy });

/** An object that overlaps so much with another is the same one. */
const SAME_IOU = 0.5;

/** The found objects that are not there already. */
export function withoutKnown(found, known) {
  const masks = known.filter(({ mask, area }) => mask && area);
  return found.filter((object) => !masks.some((other) => overlapping(other.box, object.box) && iou(runsOf(other.mask), runsOf(object.mask)) > SAME_IOU));
}

const overlapping = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
