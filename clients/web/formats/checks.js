/** What a file that is imported must be. Nothing in it is trusted. */

import { formats as texts } from "../texts/en_formats.js";

/** Masks of more objects are not read from one file. */
export const MAX_OBJECTS = 200_000;

/** A file that cannot be read. The message says what is wrong with which part of it, and what to do. */
export class FormatError extends Error {
  /** @param {string} key of texts @param {...any} values that the text shows */
  constructor(key, ...values) {
    super(texts.errors[key](...values));
    this.name = "FormatError";
    this.key = key;
  }
}

const shown = (value) => {
  const text = value === undefined ? "nothing" : JSON.stringify(value) ?? String(value);
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
};

/** @param {string} where such as `annotations[3].segmentation` @returns {any[]} */
export function asList(value, where) {
  if (!Array.isArray(value)) throw new FormatError("notAList", where, shown(value));
  return value;
}

/** @returns {Record<string, any>} */
export function asObject(value, where) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new FormatError("notAnObject", where, shown(value));
  return value;
}

/** @returns {number} */
export function asNumber(value, where) {
  if (typeof value !== "number" || !Number.isFinite(value)) throw new FormatError("notANumber", where, shown(value));
  return value;
}

/** @returns {number} */
export function asSize(value, where) {
  if (!Number.isInteger(value) || value < 1 || value > 1_000_000) throw new FormatError("notASize", where, shown(value));
  return value;
}

/** @returns {string} */
export function asText(value, where) {
  if (typeof value !== "string") throw new FormatError("notText", where, shown(value));
  return value;
}

export function checkCount(count) {
  if (count > MAX_OBJECTS) throw new FormatError("tooManyObjects", count, MAX_OBJECTS);
}

/** @param {string} text @param {string} name of the file */
export function parseJson(text, name) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new FormatError("notJson", name, error.message);
  }
}

/** Rings of a GeoJSON Polygon or MultiPolygon. @returns {[number, number][][]} */
export function asRings(value, where) {
  return asList(value, where).map((ring, number) => {
    const points = asList(ring, `${where}[${number}]`);
    if (points.length < 3) throw new FormatError("fewPoints", `${where}[${number}]`, points.length);
    return points.map((point, index) => asPoint(point, `${where}[${number}][${index}]`));
  });
}

function asPoint(value, where) {
  if (!Array.isArray(value) || value.length < 2) throw new FormatError("notAPoint", where, shown(value));
  return [asNumber(value[0], `${where}[0]`), asNumber(value[1], `${where}[1]`)];
}
