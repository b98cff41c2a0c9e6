/**
 * The only place that changes the document. A change is a list of edits; undo puts back what was before each.
 *
 * @typedef {object} Edit
 * @property {"classes" | "pictures" | "objects"} table
 * @property {string} id
 * @property {object | undefined} before undefined: the record is new
 * @property {object | undefined} after undefined: the record is removed
 *
 * @typedef {object} Change
 * @property {number} number rises by one with every change
 * @property {string} label key of its name in texts/en.js, `changes`
 * @property {Edit[]} edits
 *
 * Events, each a CustomEvent: `change` {detail: {edits, kind: "commit" | "undo" | "redo" | "amend", change}}.
 */

import { Document } from "./document.js";

/** Older changes cannot be undone. */
export const MAX_CHANGES = 1000;

export class Store extends EventTarget {
  constructor(document = new Document()) {
    super();
    this.document = document;
    /** @type {Change[]} */
    this.done = [];
    /** @type {Change[]} the next one to redo is the last */
    this.undone = [];
    this.nextNumber = 1;
  }

  /** Take over what was saved. done, undone: changes in their order. */
  restore({ classes = [], pictures = [], objects = [], done = [], undone = [] }) {
    for (const [table, records] of Object.entries({ classes, pictures, objects }))
      for (const record of records) this.document.set(table, record.id, record);
    this.done = done;
    this.undone = undone;
    this.nextNumber = 1 + Math.max(0, ...[...done, ...undone].map(({ number }) => number));
    this.#tell("amend", [], null);
  }

  /** Make a change that can be undone. Edits that change nothing are left out. Returns the change, or null. */
  commit(label, edits) {
    const real = edits.filter(({ before, after }) => before !== after);
    if (!real.length) return null;
    const change = { number: this.nextNumber++, label, edits: real };
    this.#apply(real, "after");
    this.done.push(change);
    const dropped = this.done.length > MAX_CHANGES ? this.done.splice(0, this.done.length - MAX_CHANGES) : [];
    dropped.push(...this.undone);
    this.undone = [];
    this.#tell("commit", real, change, dropped);
    return change;
  }

  /** Add a record without a change that could be undone: a picture that was opened, the first class. */
  plant(table, record) {
    this.document.set(table, record.id, record);
    this.#tell("amend", [{ table, id: record.id, before: undefined, after: record }], null);
  }

  /** Run a command of commands.js: `store.run(commands.setClass, ids, classId)`. */
  run(command, ...args) {
    const made = command(this.document, ...args);
    return made ? this.commit(made.label, made.edits) : null;
  }

  get canUndo() {
    return this.done.length > 0;
  }

  get canRedo() {
    return this.undone.length > 0;
  }

  /** Returns the change that was undone, or null. */
  undo() {
    const change = this.done.pop();
    if (!change) return null;
    this.undone.push(change);
    this.#apply([...change.edits].reverse(), "before");
    this.#tell("undo", change.edits, change);
    return change;
  }

  /** Returns the change that was made again, or null. */
  redo() {
    const change = this.undone.pop();
    if (!change) return null;
    this.done.push(change);
    this.#apply(change.edits, "after");
    this.#tell("redo", change.edits, change);
    return change;
  }

  /**
   * Add what became known about a record, such as the answer to its request. It is no change that could be undone: it
   * is added to the record wherever the history has it. revision: only to records with this one.
   */
  amend(table, id, fields, revision = undefined) {
    const replaced = new Map();
    const amended = (record) => {
      if (!record || (revision !== undefined && record.revision !== revision)) return record;
      if (!replaced.has(record)) replaced.set(record, { ...record, ...fields });
      return replaced.get(record);
    };
    const changed = [];
    for (const [changes, undone] of [[this.done, false], [this.undone, true]])
      for (const change of changes) {
        let touched = false;
        for (const edit of change.edits) {
          if (edit.table !== table || edit.id !== id) continue;
          const [before, after] = [amended(edit.before), amended(edit.after)];
          if (before === edit.before && after === edit.after) continue;
          Object.assign(edit, { before, after });
          touched = true;
        }
        if (touched) changed.push({ change, undone });
      }
    const before = this.document[table].get(id), after = amended(before);
    if (after !== before) this.document.set(table, id, after);
    else if (!changed.length) return false;
    this.#tell("amend", after === before ? [] : [{ table, id, before, after }], null, [], changed);
    return true;
  }

  /** Undo the change and forget it, wherever it is the latest: the service has refused what it asked. */
  takeBack(change) {
    if (this.done.at(-1) !== change) return false;
    this.done.pop();
    this.#apply([...change.edits].reverse(), "before");
    this.#tell("undo", change.edits, change, [change]);
    return true;
  }

  /** Remove a record that was planted, without a change that could be undone. */
  uproot(table, id) {
    const before = this.document[table].get(id);
    if (!before) return;
    this.document.set(table, id, undefined);
    this.#tell("amend", [{ table, id, before, after: undefined }], null);
  }

  #apply(edits, side) {
    for (const edit of edits) this.document.set(edit.table, edit.id, edit[side]);
  }

  /** dropped: changes that are no longer in the history. amended: {change, undone}, changes whose records were added to. */
  #tell(kind, edits, change, dropped = [], amended = []) {
    this.dispatchEvent(new CustomEvent("change", { detail: { kind, edits, change, dropped, amended } }));
  }
}
