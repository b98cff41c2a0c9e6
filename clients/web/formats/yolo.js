/** YOLO-seg as Ultralytics reads it: data.yaml, and for each picture a text file with a line for each object. */

import { toPolygon } from "../../js/src/masks/outline.js";
import { runsOf } from "../state/masks.js";
import { decodeText, encodeText } from "./bytes.js";
import { checkCount, FormatError } from "./checks.js";
import { basename, fileStems, stem } from "./imported.js";
import { formats } from "../texts/en_formats.js";

const DIGITS = 6;

/** @param {import("../state/labels.js").Labels} labels @returns {{name: string, bytes: Uint8Array}[]} */
export function writeYolo({ classes, pictures }) {
  const numbers = new Map(classes.map(({ id }, index) => [id, index])), names = fileStems(pictures);
  const yaml = ["path: .", "train: images/train", "val: images/train", "names:", ...classes.map(({ name }, index) => `  ${index}: ${JSON.stringify(name)}`), ""];
  const files = pictures.map(({ width, height, objects }, index) => {
    const lines = objects.map((object) => `${numbers.get(object.class)} ${toLine(object, width, height)}\n`);
    return { name: `labels/train/${names[index]}.txt`, bytes: encodeText(lines.join("")) };
  });
  return [{ name: "data.yaml", bytes: encodeText(yaml.join("\n")) }, ...files];
}

function toLine({ mask, tolerance }, width, height) {
  const { type, coordinates } = toPolygon(runsOf(mask), mask.size[0], tolerance ?? 0);
  const rings = (type === "Polygon" ? [coordinates] : coordinates).flat();
  const part = (value, side) => Number((value / side).toFixed(DIGITS));
  return joinRings(rings).flatMap(([x, y]) => [part(x, width), part(y, height)]).join(" ");
}

/**
 * One ring for all: a line has one outline, so parts and holes are joined by lines that go forth and back, as
 * Ultralytics' own converter joins parts. What they enclose stays the same.
 */
export function joinRings(rings) {
  const [first, ...rest] = rings.map((ring) => ring.slice(0, -1));
  return rest.reduce((joined, ring) => {
    const [from, to] = nearest(joined, ring);
    const turned = [...ring.slice(to), ...ring.slice(0, to)];
    return [...joined.slice(0, from + 1), ...turned, turned[0], ...joined.slice(from)];
  }, first);
}

function nearest(one, other) {
  let best = [0, 0], least = Infinity;
  one.forEach(([ax, ay], a) => other.forEach(([bx, by], b) => {
    const distance = (ax - bx) ** 2 + (ay - by) ** 2;
    if (distance < least) [best, least] = [[a, b], distance];
  }));
  return best;
}

const isLabelFile = (name) => /\.txt$/i.test(name) && !/(^|\/)(classes|train|val|test|readme)\.txt$/i.test(name);
const isYaml = (name) => /\.ya?ml$/i.test(name);

/** Whether the files of a zip are YOLO-seg. @param {{name: string}[]} files */
export const isYolo = (files) => files.some(({ name }) => isYaml(name)) && files.some(({ name }) => isLabelFile(name));

/** @param {{name: string, bytes: Uint8Array}[]} files @param {string} zip @returns {import("./imported.js").Imported} */
export function readYolo(files, zip) {
  const yaml = files.find(({ name }) => isYaml(name));
  const names = yaml ? readNames(decodeText(yaml.bytes, `${zip}/${yaml.name}`)) : null;
  const counter = { withoutMask: 0, objects: 0 };
  const pictures = files.filter(({ name }) => isLabelFile(name)).map(({ name, bytes }) => ({
    name: stem(name),
    file: basename(name),
    width: null,
    height: null,
    objects: readLines(decodeText(bytes, name), name, names, counter),
  }));
  return { classes: (names ?? []).map((name) => ({ name })), pictures, withoutMask: counter.withoutMask };
}

function readLines(text, file, names, counter) {
  const objects = [];
  text.split(/\r?\n/).forEach((line, index) => {
    const words = line.trim().split(/\s+/);
    if (words[0] === "") return;
    const fail = (reason) => { throw new FormatError("yoloLine", file, index + 1, reason); };
    const [number, ...values] = words.map(Number);
    if (![number, ...values].every(Number.isFinite)) fail(formats.errors.yoloNumbers());
    if (!Number.isInteger(number) || number < 0 || (names && number >= names.length)) fail(formats.errors.yoloClass(words[0], names?.length ?? 0));
    if (values.length === 4) { // a box of the detection format
      counter.withoutMask++;
      return;
    }
    if (values.length < 6 || values.length % 2) fail(formats.errors.yoloNumbers());
    const outside = values.find((value) => value < -0.001 || value > 1.001);
    if (outside !== undefined) fail(formats.errors.yoloOutside(outside));
    checkCount(++counter.objects);
    const ring = Array.from({ length: values.length / 2 }, (_, i) => [values[2 * i], values[2 * i + 1]]);
    objects.push({ class: names?.[number] ?? `class ${number}`, polygon: { type: "Polygon", coordinates: [ring] }, isRelative: true, fields: {} });
  });
  return objects;
}

/** `names` of data.yaml: a list or a mapping, as Ultralytics and its exporters write them. @returns {string[]} */
function readNames(yaml) {
  const names = [], lines = yaml.split(/\r?\n/), start = lines.findIndex((line) => /^names\s*:/.test(line));
  if (start < 0) return names;
  const inline = lines.slice(start).join(" ").match(/^names\s*:\s*\[([^\]]*)\]/)?.[1];
  if (inline !== undefined) return inline.split(",").map(unquote).filter(Boolean);
  for (const line of lines.slice(start + 1)) {
    const found = line.match(/^\s*(?:-|(\d+)\s*:)\s*(.+)$/);
    if (!found) {
      if (/^\S/.test(line)) break;
      continue;
    }
    names[found[1] === undefined ? names.length : Math.min(Number(found[1]), 100_000)] = unquote(found[2]);
  }
  return Array.from(names, (name, index) => name ?? `class ${index}`);
}

function unquote(text) {
  const trimmed = text.replace(/\s+#.*$/, "").trim();
  if (trimmed.startsWith('"')) {
    try {
      return String(JSON.parse(trimmed));
    } catch {
      return trimmed.slice(1, -1);
    }
  }
  return trimmed.startsWith("'") ? trimmed.slice(1, -1).replaceAll("''", "'") : trimmed;
}
