/**
 * What the user can change. Each command is a pure function of the document that returns {label, edits}, or null where
 * there is nothing to do. `store.run(command, ...)` makes the change, and undo takes it back.
 */

const add = (table, records) => records.map((record) => ({ table, id: record.id, before: undefined, after: record }));

const remove = (table, records) => records.map((record) => ({ table, id: record.id, before: record, after: undefined }));

/** Replace fields of records. fields: an object, or a function of the record that returns one (null: leave it). */
function edit(document, table, ids, fields) {
  const edits = [];
  for (const id of ids) {
    const before = document[table].get(id);
    const changed = before && (typeof fields === "function" ? fields(before) : fields);
    if (!changed || Object.keys(changed).every((key) => before[key] === changed[key])) continue;
    edits.push({ table, id, before, after: { ...before, ...changed } });
  }
  return edits;
}

const change = (label, edits) => (edits.length ? { label, edits } : null);

export const addPictures = (document, pictures) => change("addPictures", add("pictures", pictures));

/** Remove pictures with all their objects. */
export function removePictures(document, ids) {
  const pictures = ids.map((id) => document.pictures.get(id)).filter(Boolean);
  const objects = pictures.flatMap(({ id }) => document.objectsOf(id));
  return change("removePictures", [...remove("objects", objects), ...remove("pictures", pictures)]);
}

export const addClass = (document, record) => change("addClass", add("classes", [record]));

export const editClass = (document, id, fields) => change("editClass", edit(document, "classes", [id], fields));

/** Remove a class; its objects go to another one. */
export function removeClass(document, id, heir) {
  const record = document.classes.get(id);
  if (!record || !document.classes.has(heir) || heir === id) return null;
  const ids = [...document.objects.values()].filter((object) => object.class === id).map((object) => object.id);
  return change("removeClass", [...edit(document, "objects", ids, { class: heir }), ...remove("classes", [record])]);
}

/** Add objects. label: what the user did, such as `automatic`. */
export const addObjects = (document, objects, label = "addObjects") => change(label, add("objects", objects));

/** Classes, pictures and objects that come together. */
export const importLabels = (document, { classes = [], pictures = [], objects = [] }) =>
  change("importLabels", [...add("classes", classes), ...add("pictures", pictures), ...add("objects", objects)]);

export function removeObjects(document, ids) {
  return change("removeObjects", remove("objects", ids.map((id) => document.objects.get(id)).filter(Boolean)));
}

export const editObjects = (document, ids, fields, label = "editObjects") =>
  change(label, edit(document, "objects", ids, fields));

export const setClass = (document, ids, classId) => editObjects(document, ids, { class: classId }, "setClass");

/** Put objects in place of others: a split, a join. */
export function replaceObjects(document, ids, objects, label) {
  const old = ids.map((id) => document.objects.get(id)).filter(Boolean);
  return change(label, [...remove("objects", old), ...add("objects", objects)]);
}

/** Accept drafts and suggestions. clip: {id: fields}, what changes about other objects with it. */
export const accept = (document, ids, clip = {}) =>
  change("accept", [
    ...edit(document, "objects", ids, (object) => ({ state: "done", ...clip[object.id] })),
    ...edit(document, "objects", Object.keys(clip).filter((id) => !ids.includes(id)), (object) => clip[object.id]),
  ]);
