/** Puts what was read from a file into the document: pictures by their names, classes by theirs. */

import { decode } from "../../js/src/masks/rle.js";
import { fromPolygon } from "../../js/src/masks/outline.js";
import { maskFields } from "../state/masks.js";
import { newClass, newObject } from "../state/new_records.js";
import { newFrame } from "../timeline/clip.js";
import { formats as texts } from "../texts/en_formats.js";
import { FormatError } from "./checks.js";
import { basename, stem } from "./imported.js";

/**
 * @param {import("../state/document.js").Document} document is not changed
 * @param {import("./imported.js").Imported} imported
 * @param {string | null} open id of the picture that is open: labels of a file that names no known picture are its
 *   labels, if the file is of one picture alone
 * @returns {{classes: object[], pictures: object[], objects: object[], notes: string[]}} for commands.importLabels; pictures: frames
 *   that were not opened yet. Throws FormatError, and then nothing is imported.
 */
export function place(document, imported, open = null) {
  const made = [], classes = new ClassList(document, imported.classes), find = pictureFinder(document, imported, open, made);
  const objects = [], unknown = new Set(), touched = new Set();
  let emptyCount = 0;
  for (const labelled of imported.pictures) {
    if (!labelled.objects.length) continue;
    const picture = find(labelled);
    if (!picture) {
      unknown.add(labelled.name ?? labelled.file);
      continue;
    }
    checkSize(labelled, picture);
    for (const object of labelled.objects) {
      const mask = toMaskFields(object, picture);
      if (!mask.area) emptyCount++;
      else {
        objects.push(newObject(picture.id, classes.idOf(object.class), { ...object.fields, ...mask, base: mask.mask, madeBy: "import" }));
        touched.add(picture.id);
      }
    }
  }
  const notes = [
    texts.notes.imported(objects.length, touched.size),
    ...(unknown.size ? [texts.notes.unknownPictures([...unknown])] : []),
    ...(imported.withoutMask ? [texts.notes.noMask(imported.withoutMask)] : []),
    ...(emptyCount ? [texts.notes.empty(emptyCount)] : []),
  ];
  return { classes: classes.made, pictures: made.filter(({ id }) => touched.has(id)), objects, notes };
}

/**
 * A function that finds the picture of labels: by its whole name, then without folders, then without its suffix too. Labels
 * of a frame are of the clip that is open, otherwise of the first one; made gets pictures of frames that nobody has opened.
 */
function pictureFinder(document, { pictures }, open, made) {
  const known = document.listPictures(), shown = known.find(({ id, source }) => id === open && source?.file) ?? known.find(({ source }) => source?.file);
  const frames = new Map(known.filter(({ source }) => source?.file && source.file === shown.source.file && source.axis === shown.source.axis)
    .map((picture) => [picture.source.frame, picture]));
  const frameOf = (frame) => {
    if (!shown || frame >= shown.clip.axes[shown.source.axis].frames) return null;
    if (!frames.has(frame)) {
      frames.set(frame, newFrame(shown.clip, frame, shown.source.axis));
      made.push(frames.get(frame));
    }
    return frames.get(frame);
  };
  const byKey = [(name) => name, basename, stem].map((key) => {
    const found = new Map();
    for (const picture of known) found.set(key(picture.name), found.has(key(picture.name)) ? null : picture); // null: several
    return { key, found };
  });
  return ({ name, frame }) => {
    if (frame !== undefined) return frameOf(frame);
    for (const { key, found } of name === null ? [] : byKey) {
      const picture = found.get(key(name));
      if (picture) return picture;
    }
    return pictures.length === 1 && open !== null ? document.pictures.get(open) ?? null : null;
  };
}

function checkSize({ file, width, height }, picture) {
  if (!picture.width || !picture.height) throw new FormatError("notLoaded", picture.name);
  if (width !== null && (width !== picture.width || height !== picture.height)) throw new FormatError("otherSize", file, width, height, picture);
}

function toMaskFields({ mask, polygon, isRelative }, { width, height }) {
  if (mask) return maskFields(decode(mask), [height, width]);
  return maskFields(fromPolygon(isRelative ? scale(polygon, width, height) : polygon, width, height), [height, width]);
}

function scale({ type, coordinates }, width, height) {
  const ring = (points) => points.map(([x, y]) => [x * width, y * height]);
  return { type, coordinates: type === "Polygon" ? coordinates.map(ring) : coordinates.map((rings) => rings.map(ring)) };
}

/** The classes of the document by name, and those that are new. */
class ClassList {
  constructor(document, imported) {
    const known = document.listClasses();
    this.first = known[0]?.id ?? null;
    this.ids = new Map(known.map(({ id, name }) => [name, id]));
    this.count = known.length;
    this.made = [];
    for (const { name, colour } of imported) this.#add(name, colour);
  }

  idOf(name) {
    if (name !== null) return this.ids.get(name) ?? this.#add(name);
    return this.first ?? (this.first = this.#add("object"));
  }

  #add(name, colour) {
    if (this.ids.has(name)) return this.ids.get(name);
    const made = newClass(name, this.count++, colour ? { colour } : {});
    this.made.push(made);
    this.ids.set(name, made.id);
    return made.id;
  }
}
