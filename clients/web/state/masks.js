/** Masks of the document as runs, decoded once each, and the fields of an object that follow from a mask. */

import { decode, encode } from "../../js/src/masks/rle.js";
import { area, boundingBox } from "../../js/src/masks/runs.js";

const decoded = new WeakMap();

/** @param {import("./document.js").Rle} mask */
export function runsOf(mask) {
  let runs = decoded.get(mask);
  if (!runs) decoded.set(mask, (runs = decode(mask)));
  return runs;
}

/** The fields of an object with this mask. runs: of a picture of height x width. */
export function maskFields(runs, [height, width]) {
  const mask = encode(runs, width, height);
  decoded.set(mask, runs);
  return { mask, area: area(runs), box: boundingBox(runs, height) };
}
