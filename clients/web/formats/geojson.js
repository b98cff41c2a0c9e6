/** GeoJSON (RFC 7946) in pixels of the picture, with classes as QuPath writes and reads them. */

import { toPolygon } from "../../js/src/masks/outline.js";
import { runsOf } from "../state/masks.js";
import { asObject, asRings, checkCount, FormatError } from "./checks.js";
import { stem } from "./imported.js";

const toRgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
const toHex = (rgb) => `#${rgb.map((value) => value.toString(16).padStart(2, "0")).join("")}`;

/** @param {import("../state/labels.js").LabelledPicture} picture @param {import("../state/labels.js").Labels["classes"]} classes */
export function toGeoJson({ height, objects }, classes) {
  const byId = new Map(classes.map((record) => [record.id, record]));
  return { type: "FeatureCollection", features: objects.map((object) => toFeature(object, byId.get(object.class), height)) };
}

function toFeature({ id, mask, score, track, tolerance }, { name, colour }, height) {
  const measurements = score === null ? {} : { score };
  return {
    type: "Feature",
    id,
    geometry: toPolygon(runsOf(mask), height, tolerance ?? 0),
    properties: {
      objectType: "annotation",
      classification: { name, color: toRgb(colour) },
      ...(track === null ? {} : { name: track }),
      measurements,
    },
  };
}

/** Whether JSON is GeoJSON: a feature, or a list of them. */
export const isGeoJson = (json) =>
  ["FeatureCollection", "Feature"].includes(json?.type) || (Array.isArray(json) && json.length > 0 && json.every((item) => item?.type === "Feature"));

/** @param {any} json @param {string} file @returns {import("./imported.js").Imported} */
export function fromGeoJson(json, file) {
  const features = Array.isArray(json) ? json : json.type === "Feature" ? [json] : json.features;
  if (!Array.isArray(features)) throw new FormatError("notAList", "features", String(features));
  checkCount(features.length);
  const classes = new Map(), objects = [];
  let withoutMask = 0;
  features.forEach((raw, index) => {
    const where = `features[${index}]`, feature = asObject(raw, where);
    const polygon = readGeometry(feature.geometry, `${where}.geometry`);
    if (!polygon) {
      withoutMask++;
      return;
    }
    const named = readClass(feature.properties ?? {});
    if (named) classes.set(named.name, named);
    const score = feature.properties?.measurements?.score;
    objects.push({ class: named?.name ?? null, polygon, fields: typeof score === "number" && Number.isFinite(score) ? { score } : {} });
  });
  return { classes: [...classes.values()], pictures: [{ name: stem(file), file, width: null, height: null, objects }], withoutMask };
}

/** Points and lines have no pixels: null. */
function readGeometry(raw, where) {
  if (raw === null || raw === undefined) return null;
  const { type, coordinates } = asObject(raw, where);
  if (type === "Polygon") return { type, coordinates: asRings(coordinates, `${where}.coordinates`) };
  if (type !== "MultiPolygon") return null;
  if (!Array.isArray(coordinates)) throw new FormatError("notAList", `${where}.coordinates`, String(coordinates));
  return { type, coordinates: coordinates.map((rings, number) => asRings(rings, `${where}.coordinates[${number}]`)) };
}

function readClass({ classification, class: other, label }) {
  const named = classification ?? other ?? label, name = typeof named === "string" ? named : named?.name;
  if (typeof name !== "string" || !name) return null;
  const { color, colorRGB } = typeof named === "object" ? named : {};
  const isRgb = Array.isArray(color) && color.length === 3 && color.every((value) => Number.isInteger(value) && value >= 0 && value < 256);
  if (isRgb) return { name, colour: toHex(color) };
  // QuPath before 0.3 wrote a signed number of 32 bits: alpha, red, green, blue.
  return Number.isInteger(colorRGB) ? { name, colour: toHex([16, 8, 0].map((shift) => (colorRGB >> shift) & 255)) } : { name };
}
