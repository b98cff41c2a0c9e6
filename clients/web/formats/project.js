/** A project: all labels with their prompts, as the page has them. Beside it lies the same as COCO, for other programs. */

import { decode, encode } from "../../js/src/masks/rle.js";
import { encodeText } from "./bytes.js";
import { asList, asNumber, asObject, asSize, asText, checkCount, FormatError } from "./checks.js";
import { toCoco } from "./coco.js";

export const PROJECT_FILE = "segserve.json";
const VERSION = 1;
const MAX_POINTS = 1000;

/** @param {import("../state/labels.js").Labels} labels @returns {{name: string, bytes: Uint8Array}[]} */
export function writeProject(labels) {
  const names = new Map(labels.classes.map(({ id, name }) => [id, name]));
  const project = {
    segserve: VERSION,
    classes: labels.classes.map(({ name, colour }) => ({ name, colour })),
    pictures: labels.pictures.map(({ name, width, height, source, objects }) => ({
      name, width, height, source,
      objects: objects.map(({ class: id, mask, score, tolerance, prompt, model, madeBy, track }) => ({
        class: names.get(id), mask, score, tolerance, prompt, model, madeBy, track,
      })),
    })),
  };
  const asFile = (name, content) => ({ name, bytes: encodeText(JSON.stringify(content)) });
  return [asFile(PROJECT_FILE, project), asFile("coco.json", toCoco(labels))];
}

/** Whether JSON is a project. */
export const isProject = (json) => Number.isInteger(json?.segserve);

/** @param {any} json @param {string} file @returns {import("./imported.js").Imported} */
export function fromProject(json, file) {
  if (json.segserve > VERSION) throw new FormatError("newerProject", json.segserve);
  const classes = asList(json.classes, "classes").map((raw, index) => readClass(raw, `classes[${index}]`));
  const pictures = asList(json.pictures, "pictures").map((raw, index) => readPicture(raw, `pictures[${index}]`, file));
  checkCount(pictures.reduce((sum, { objects }) => sum + objects.length, 0));
  return { classes, pictures };
}

function readClass(raw, where) {
  const { name, colour } = asObject(raw, where);
  return { name: asText(name, `${where}.name`), ...(/^#[0-9a-f]{6}$/i.test(colour) ? { colour } : {}) };
}

function readPicture(raw, where, file) {
  const { name, width, height, objects } = asObject(raw, where);
  const picture = {
    name: asText(name, `${where}.name`), file, width: asSize(width, `${where}.width`), height: asSize(height, `${where}.height`),
  };
  return { ...picture, objects: asList(objects, `${where}.objects`).map((object, index) => readObject(object, picture, `${where}.objects[${index}]`)) };
}

function readObject(raw, { width, height }, where) {
  const object = asObject(raw, where), mask = asObject(object.mask, `${where}.mask`);
  if (mask.size?.[0] !== height || mask.size?.[1] !== width) throw new FormatError("badMask", `${where}.mask`, `its size is not ${height}, ${width}.`);
  let exact;
  try {
    exact = encode(decode({ size: [height, width], counts: asText(mask.counts, `${where}.mask.counts`) }), width, height);
  } catch (error) {
    throw error instanceof RangeError ? new FormatError("badMask", `${where}.mask`, error.message) : error;
  }
  return {
    class: object.class === undefined ? null : asText(object.class, `${where}.class`),
    mask: exact,
    fields: {
      score: optional(object.score, asNumber, `${where}.score`),
      tolerance: optional(object.tolerance, asNumber, `${where}.tolerance`),
      prompt: optional(object.prompt, readPrompt, `${where}.prompt`),
      model: optional(object.model, asText, `${where}.model`),
      track: optional(object.track, asText, `${where}.track`),
    },
  };
}

const optional = (value, read, where) => (value === null || value === undefined ? null : read(value, where));

function readPrompt(raw, where) {
  const { points = [], labels = [], box = null } = asObject(raw, where);
  if (asList(points, `${where}.points`).length > MAX_POINTS || asList(labels, `${where}.labels`).length !== points.length) throw new FormatError("badPrompt", where);
  const pair = (point, at) => asList(point, at).slice(0, 2).map((value) => asNumber(value, at));
  return {
    points: points.map((point, index) => pair(point, `${where}.points[${index}]`)),
    labels: labels.map((label) => (label === 0 ? 0 : 1)),
    box: box === null ? null : asList(box, `${where}.box`).slice(0, 4).map((value) => asNumber(value, `${where}.box`)),
  };
}
