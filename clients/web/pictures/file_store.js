/** The files of the user: in the database, so that they can be sent again after a reload; in memory where it is full. */

export class FileStore {
  /** database: null where the browser has none. */
  constructor(database) {
    this.database = database;
    this.held = new Map();
  }

  /** Keep a file. Returns whether it lasts over a reload. */
  async keep(id, file) {
    this.held.set(id, file);
    try {
      await this.database?.writeFile(id, file);
      if (this.database) this.held.delete(id);
      return Boolean(this.database);
    } catch {
      return false; // no room: it stays in memory
    }
  }

  /** @returns {Promise<Blob | undefined>} */
  async read(id) {
    return this.held.get(id) ?? await this.database?.readFile(id);
  }
}
