/** COCO data sets (cocodataset.org, "Data format"): run lengths or polygons. */

import { encode, lengthsToRuns, decode } from "../../js/src/masks/rle.js";
import { toPolygon } from "../../js/src/masks/outline.js";
import { runsOf } from "../state/masks.js";
import { asList, asNumber, asObject, asSize, asText, checkCount, FormatError } from "./checks.js";

/**
 * @param {import("../state/labels.js").Labels} labels
 * @param {{polygons?: boolean}} [options] polygons: outlines instead of run lengths. COCO's polygons have no holes, so
 *   objects with holes stay run lengths.
 */
export function toCoco({ classes, pictures }, { polygons = false } = {}) {
  const categories = classes.map(({ name }, index) => ({ id: index + 1, name, supercategory: "" }));
  const numbers = new Map(classes.map(({ id }, index) => [id, index + 1]));
  const images = pictures.map(({ name, width, height }, index) => ({ id: index + 1, file_name: name, width, height }));
  const annotations = pictures.flatMap(({ objects }, index) =>
    objects.map((object) => toAnnotation(object, index + 1, numbers.get(object.class), polygons)));
  annotations.forEach((annotation, index) => { annotation.id = index + 1; });
  return { info: { description: "labels made with segserve" }, licenses: [], categories, images, annotations };
}

function toAnnotation({ mask, box: [x0, y0, x1, y1], area, score, track, tolerance }, image, category, polygons) {
  return {
    id: 0,
    image_id: image,
    category_id: category,
    segmentation: (polygons && toCocoPolygons(mask, tolerance)) || { size: mask.size, counts: mask.counts },
    bbox: [x0, y0, x1 - x0, y1 - y0],
    area,
    iscrowd: 0,
    ...(score === null ? {} : { score }),
    ...(track === null ? {} : { attributes: { track_id: track } }),
  };
}

/** A list of rings, or null where the object has holes. */
function toCocoPolygons(mask, tolerance) {
  const { type, coordinates } = toPolygon(runsOf(mask), mask.size[0], tolerance ?? 0);
  const parts = type === "Polygon" ? [coordinates] : coordinates;
  return parts.some((rings) => rings.length !== 1) ? null : parts.map(([ring]) => ring.slice(0, -1).flat());
}

/** Whether JSON is a COCO data set. */
export const isCoco = (json) => Array.isArray(json?.images) && (Array.isArray(json?.annotations) || Array.isArray(json?.categories));

/** @param {any} json @param {string} file for messages @returns {import("./imported.js").Imported} */
export function fromCoco(json, file) {
  const categories = new Map(asList(json.categories ?? [], "categories").map((raw, index) => {
    const { id, name } = asObject(raw, `categories[${index}]`);
    return [id, asText(name, `categories[${index}].name`)];
  }));
  const pictures = new Map(asList(json.images, "images").map((raw, index) => [raw?.id, readImage(raw, `images[${index}]`, file)]));
  const annotations = asList(json.annotations ?? [], "annotations");
  checkCount(annotations.length);
  let withoutMask = 0;
  annotations.forEach((raw, index) => {
    const where = `annotations[${index}]`, annotation = asObject(raw, where), picture = pictures.get(annotation.image_id);
    if (!picture) throw new FormatError("unknownId", `${where}.image_id`, String(annotation.image_id));
    if (!categories.has(annotation.category_id)) throw new FormatError("unknownId", `${where}.category_id`, String(annotation.category_id));
    const shape = readSegmentation(annotation.segmentation, picture, `${where}.segmentation`);
    if (!shape) withoutMask++;
    else picture.objects.push({ class: categories.get(annotation.category_id), ...shape, fields: readFields(annotation) });
  });
  return { classes: [...categories.values()].map((name) => ({ name })), pictures: [...pictures.values()], withoutMask };
}

function readImage(raw, where, file) {
  const { file_name, width, height } = asObject(raw, where);
  return {
    name: asText(file_name, `${where}.file_name`),
    file,
    width: asSize(width, `${where}.width`),
    height: asSize(height, `${where}.height`),
    objects: [],
  };
}

function readFields({ score, attributes }) {
  const track = attributes?.track_id;
  return {
    ...(typeof score === "number" && Number.isFinite(score) ? { score } : {}),
    ...(typeof track === "string" || typeof track === "number" ? { track: String(track) } : {}),
  };
}

function readSegmentation(segmentation, { width, height }, where) {
  if (segmentation === undefined || segmentation === null) return null;
  if (Array.isArray(segmentation)) {
    if (!segmentation.length) return null;
    const rings = segmentation.map((flat, number) => readRing(flat, `${where}[${number}]`));
    return { polygon: { type: "MultiPolygon", coordinates: rings.map((ring) => [ring]) } };
  }
  const { size, counts } = asObject(segmentation, where);
  if (!Array.isArray(size) || size[0] !== height || size[1] !== width) throw new FormatError("badMask", where, `its size is not ${height}, ${width}.`);
  try {
    const runs = Array.isArray(counts) ? lengthsToRuns(counts, width * height) : decode({ size, counts: asText(counts, `${where}.counts`) });
    return { mask: encode(runs, width, height) };
  } catch (error) {
    throw error instanceof RangeError ? new FormatError("badMask", where, error.message) : error;
  }
}

function readRing(flat, where) {
  const numbers = asList(flat, where);
  if (numbers.length < 6 || numbers.length % 2) throw new FormatError("fewPoints", where, numbers.length / 2);
  return Array.from({ length: numbers.length / 2 }, (_, i) => [asNumber(numbers[2 * i], where), asNumber(numbers[2 * i + 1], where)]);
}
