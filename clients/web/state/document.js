/**
 * The labels of all pictures: three tables of records. Records are never changed, only replaced.
 *
 * @typedef {{size: [number, number], counts: string}} Rle COCO's compressed run lengths; size is height, width.
 *
 * @typedef {object} Class
 * @property {string} id
 * @property {string} name
 * @property {string} colour `#rrggbb`
 * @property {number} order place in the list
 *
 * @typedef {object} Picture
 * @property {string} id
 * @property {string} name file name, with the folder it was opened from
 * @property {number} order place in the list
 * @property {string | null} imageId the service's; null until it is uploaded
 * @property {number | null} width pixels; null until it is uploaded
 * @property {number | null} height
 * @property {{size: number, levels: number} | null} tiles how the service cuts it, for the viewer
 * @property {object | null} source null: a file of the user, kept in the database by the picture's id. Otherwise
 *   `{file: file_id, frame: number, axis: 0 | 1 | 2}`: a frame or a slice of a file of the service, or `{imageId}`
 * @property {import("../timeline/clip.js").Clip} [clip] that it is a frame of
 * @property {{job: string, class: string} | null} [run] the job that finds everything on it, and the class of what it finds
 * @property {boolean} [reviewed] a person has said that the objects of the frame are right
 * @property {{job: string, line: number}} [shown] which result of a job is on the frame
 *
 * @typedef {object} Prompt What the service was asked, in pixels of the picture
 * @property {[number, number][]} points
 * @property {(0 | 1)[]} labels 1: on the object, 0: not on it
 * @property {[number, number, number, number] | null} box x0, y0, x1, y1
 *
 * @typedef {object} Candidate One of the masks that the service offered for the prompt
 * @property {Rle} mask
 * @property {number} score predicted IoU
 * @property {[number, number, number, number]} box
 * @property {number} area pixels
 * @property {string | null} maskId
 *
 * @typedef {object} LabelObject
 * @property {string} id
 * @property {string} picture id of its picture
 * @property {number} order place in the list; a higher one is drawn above a lower one
 * @property {string} class id of its class
 * @property {"draft" | "done" | "suggested"} state draft: being made; suggested: found, not accepted yet
 * @property {Rle | null} mask null until the service has answered
 * @property {[number, number, number, number] | null} box of the mask: x0, y0, x1, y1, the last two exclusive
 * @property {number} area pixels of the mask
 * @property {number | null} score
 * @property {Prompt | null} prompt that made the mask, and can be reopened
 * @property {Rle | null} base the mask that the prompt refines: an edited or imported one, without prompts of its own
 * @property {Candidate[]} candidates
 * @property {number} candidate index of the one that is the mask
 * @property {string | null} maskId of the service, to refine the mask; the mask itself is sent where it has expired
 * @property {string | null} model that made it
 * @property {"prompt" | "automatic" | "similar" | "brush" | "import" | "propagation"} madeBy
 * @property {number | null} tolerance pixels by which its polygon may differ from the mask; null: it is not simplified
 * @property {number | null} revision names the request that is on its way, or the last one answered
 * @property {boolean} [refines] the latest prompt adds a point to the one that made the mask
 * @property {number} [likeness] to the examples, of what was found by them; 1: as like as they are
 * @property {boolean} pending the service has not answered the latest prompt
 * @property {string | null} track id shared by the same object on other frames or slices
 */

export const TABLES = Object.freeze(["classes", "pictures", "objects"]);

const byOrder = (a, b) => a.order - b.order;

export class Document {
  constructor() {
    /** @type {Map<string, Class>} */
    this.classes = new Map();
    /** @type {Map<string, Picture>} */
    this.pictures = new Map();
    /** @type {Map<string, LabelObject>} */
    this.objects = new Map();
    /** @type {Map<string, Set<string>>} ids of the objects of each picture */
    this.idsByPicture = new Map();
    /** @type {Map<string, LabelObject[]>} */
    this.sorted = new Map();
  }

  /** Put a record in place of the one with its id. record undefined: remove it. */
  set(table, id, record) {
    if (table === "objects") this.#index(id, this.objects.get(id), record);
    if (record === undefined) this[table].delete(id);
    else this[table].set(id, record);
  }

  #index(id, before, after) {
    for (const record of [before, after]) if (record) this.sorted.delete(record.picture);
    if (before) this.idsByPicture.get(before.picture)?.delete(id);
    if (!after) return;
    if (!this.idsByPicture.has(after.picture)) this.idsByPicture.set(after.picture, new Set());
    this.idsByPicture.get(after.picture).add(id);
  }

  /** The objects of a picture, from the bottom to the top. Do not change the array. @returns {LabelObject[]} */
  objectsOf(picture) {
    let objects = this.sorted.get(picture);
    if (!objects) {
      objects = [...this.idsByPicture.get(picture) ?? []].map((id) => this.objects.get(id)).sort(byOrder);
      this.sorted.set(picture, objects);
    }
    return objects;
  }

  /** @returns {Picture[]} */
  listPictures() {
    return [...this.pictures.values()].sort(byOrder);
  }

  /** @returns {Class[]} */
  listClasses() {
    return [...this.classes.values()].sort(byOrder);
  }
}
