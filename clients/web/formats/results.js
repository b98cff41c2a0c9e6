/** Lines of a job's results, as GET /v1/jobs/{job_id}/results answers them: videos, volumes, tracks, and batches that find objects. */

import { decode, encode } from "../../js/src/masks/rle.js";
import { asList, asObject, asSize, asText, checkCount, FormatError, parseJson } from "./checks.js";

export const isResults = (name) => /\.(ndjson|jsonl)$/i.test(name);

/** @param {string} text @param {string} file for messages @returns {import("./imported.js").Imported} */
export function fromResults(text, file) {
  const pictures = [];
  let count = 0;
  for (const [at, line] of text.split("\n").entries()) {
    if (!line.trim()) continue;
    const picture = readLine(parseJson(line, `${file}, line ${at + 1}`), file, `line ${at + 1}`);
    checkCount((count += picture.objects.length));
    pictures.push(picture);
  }
  return { classes: [], pictures };
}

function readLine(raw, file, where) {
  const line = asObject(raw, where), frame = line.frame ?? line.slice;
  const objects = asList(line.objects ?? [], `${where}.objects`).map((object, index) => readObject(object, `${where}.objects[${index}]`));
  const size = objects[0]?.mask.size ?? [null, null], picture = { file, width: size[1], height: size[0], objects };
  if (frame === undefined) return { ...picture, name: line.name === undefined ? null : asText(line.name, `${where}.name`) };
  if (!Number.isInteger(frame) || frame < 0) throw new FormatError("notANumber", `${where}.frame`, String(frame));
  return { ...picture, name: null, frame };
}

function readObject(raw, where) {
  const object = asObject(raw, where), { size, counts } = asObject(object.mask, `${where}.mask`);
  const sides = asList(size, `${where}.mask.size`), [height, width] = [0, 1].map((side) => asSize(sides[side], `${where}.mask.size`));
  let mask;
  try {
    mask = encode(decode({ size: [height, width], counts: asText(counts, `${where}.mask.counts`) }), width, height);
  } catch (error) {
    throw error instanceof RangeError ? new FormatError("badMask", `${where}.mask`, error.message) : error;
  }
  const id = object.object_id ?? object.id, { score } = object;
  return {
    class: typeof object.class === "string" ? object.class : null,
    mask,
    fields: {
      ...(typeof score === "number" && Number.isFinite(score) ? { score } : {}),
      ...(Number.isInteger(id) && object.object_id !== undefined ? { track: String(id) } : {}),
    },
  };
}
