/**
 * What the page shows now and nobody needs to undo: the open picture, the tool, the selection, messages. The settings
 * among it are kept in localStorage.
 */

const SETTINGS_KEY = "segserve.settings";

/** Kept over visits. */
export const DEFAULT_SETTINGS = Object.freeze({
  model: null, // name; null: the service's default
  semanticModel: null,
  picture: null, // id of the open one
  classId: null, // of new objects
  tool: "segment",
  hover: true,
  decode: "auto", // where clicks are decoded: "server", "browser", or the quicker of the two
  noOverlaps: false,
  brushRadius: 12, // pixels of the screen
  opacity: 0.4, // of masks
  colourBy: "class", // or "object"
  showPictures: true,
  exportFormat: "coco", // of formats/index.js
  theme: "system", // or "light", "dark"
  keys: {}, // action -> key, where it is not the default
  minArea: 30, // pixels: smaller holes and specks are cleaned
});

const START = Object.freeze({
  models: [],
  selected: [], // ids of objects
  editing: null, // id of an accepted object that clicks correct
  sign: 1, // what a plain click means: 1 on the object, 0 not on it
  problem: null, // {title, detail, remedy}
  status: "", // told to screen readers too
  online: true,
  tenant: null, // whose work is shown
  who: null, // {tenant, role, name, asks_for_keys}: whom the service takes the user for
  isLoggedOut: false, // requests wait for a login
  saving: "saved", // or "off": another tab, or a browser without IndexedDB; "full"
  dialog: null, // "keys", "export", "everything"
  sheet: null, // on phones: "pictures" or "objects"
  busy: null, // {text, cancel}: a long request
  pictureStates: new Map(), // picture id -> {state, progress, problem}
  runs: new Map(), // picture id -> {state, since}: jobs that find everything, see segmenting/long_runs.js
  semantic: null, // {picture, model, classes: [{name, mask, fraction, colour}], visible}
  masksHidden: false,
  roundTripMs: null, // of the latest prompt
  decodedBy: null, // "server" or "browser": where the latest prompt was decoded
  hovering: null, // {mask, score} under the pointer
});

export class Session extends EventTarget {
  constructor(storage = globalThis.localStorage) {
    super();
    this.storage = storage;
    Object.assign(this, structuredClone({ ...DEFAULT_SETTINGS }), { ...START, pictureStates: new Map() }, this.#load());
  }

  /** Set fields and tell `change` {detail: Set of their names}. Fields that stay the same are not told. */
  set(fields) {
    const changed = Object.keys(fields).filter((key) => this[key] !== fields[key]);
    if (!changed.length) return;
    Object.assign(this, fields);
    if (changed.some((key) => key in DEFAULT_SETTINGS)) this.#save();
    this.dispatchEvent(new CustomEvent("change", { detail: new Set(changed) }));
  }

  /** What the service says of the chosen model, or null. */
  get chosenModel() {
    return this.models.find(({ name }) => name === this.model) ?? null;
  }

  /** Whether a click alone is enough for the chosen model; some are trained for boxes only. */
  get takesPoints() {
    return this.chosenModel?.prompts?.includes("points") ?? true;
  }

  setPictureState(id, fields) {
    const states = new Map(this.pictureStates);
    states.set(id, { ...states.get(id), ...fields });
    this.set({ pictureStates: states });
  }

  #load() {
    try {
      const saved = JSON.parse(this.storage?.getItem(SETTINGS_KEY) ?? "{}");
      return Object.fromEntries(Object.entries(saved).filter(([key]) => key in DEFAULT_SETTINGS));
    } catch {
      return {};
    }
  }

  #save() {
    const settings = Object.fromEntries(Object.keys(DEFAULT_SETTINGS).map((key) => [key, this[key]]));
    try {
      this.storage?.setItem(SETTINGS_KEY, JSON.stringify(settings));
    } catch {
      // Private windows may refuse; the settings then last as long as the page.
    }
  }
}
