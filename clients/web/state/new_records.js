/** Records with all their fields. */

const COLOURS = ["#2f9bff", "#ff8a1f", "#2fbf71", "#e5484d", "#a06bff", "#e6b800", "#12b5b0", "#f06ac0", "#8a9a1f", "#9a6b4f"];

export const newId = () => crypto.randomUUID();

let latest = 0;

/** A number that is higher than all earlier ones, also than those of earlier visits. */
export function nextOrder() {
  latest = Math.max(latest + 1 / 1024, Date.now());
  return latest;
}

/** The colour of the n-th class, from 0. */
export const classColour = (index) => COLOURS[index % COLOURS.length];

/** @returns {import("./document.js").Class} */
export const newClass = (name, index, fields = {}) => ({
  id: newId(), name, colour: classColour(index), order: nextOrder(), ...fields,
});

/** @returns {import("./document.js").Picture} */
export const newPicture = (name, fields = {}) => ({
  id: newId(), name, order: nextOrder(), imageId: null, width: null, height: null, tiles: null, source: null, ...fields,
});

/** @returns {import("./document.js").LabelObject} */
export const newObject = (picture, classId, fields = {}) => ({
  id: newId(),
  picture,
  order: nextOrder(),
  class: classId,
  state: "done",
  mask: null,
  box: null,
  area: 0,
  score: null,
  prompt: null,
  base: null,
  candidates: [],
  candidate: 0,
  maskId: null,
  model: null,
  madeBy: "prompt",
  tolerance: null,
  revision: null,
  pending: false,
  track: null,
  ...fields,
});
