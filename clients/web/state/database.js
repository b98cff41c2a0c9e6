/**
 * The document, its history and the users' files in IndexedDB. Every change is written at once, in one transaction.
 */

const NAME = "segserve";
export const DEFAULT_TENANT = "default"; // of a service that asks for no keys
const VERSION = 1;
const RECORDS = ["classes", "pictures", "objects"];

const settled = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

const finished = (transaction) => new Promise((resolve, reject) => {
  transaction.oncomplete = () => resolve();
  transaction.onabort = () => reject(transaction.error);
});

/** The name under which this browser keeps what belongs to a tenant. Tenants never see each other's work. */
export const nameFor = (tenant, name = NAME) => (tenant === DEFAULT_TENANT ? name : `${name}.${tenant}`);

export class Database {
  /** @param {IDBDatabase} connection */
  constructor(connection) {
    this.connection = connection;
    this.writing = Promise.resolve();
  }

  static async open(tenant = DEFAULT_TENANT, factory = indexedDB) {
    const request = factory.open(nameFor(tenant), VERSION);
    request.onupgradeneeded = () => {
      for (const table of RECORDS) request.result.createObjectStore(table, { keyPath: "id" });
      request.result.createObjectStore("changes", { keyPath: "number" });
      request.result.createObjectStore("files");
    };
    return new Database(await settled(request));
  }

  /** What Store.restore takes. */
  async load() {
    const transaction = this.connection.transaction([...RECORDS, "changes"]);
    const [classes, pictures, objects, changes] = await Promise.all(
      [...RECORDS, "changes"].map((name) => settled(transaction.objectStore(name).getAll())));
    const done = changes.filter(({ undone }) => !undone), undone = changes.filter((change) => change.undone).reverse();
    return { classes, pictures, objects, done, undone };
  }

  /** Write a change event of the store, after those before it. */
  write({ kind, edits, change, dropped, amended }) {
    return this.#queue([...RECORDS, "changes"], (transaction) => {
      for (const { table, id, before, after } of edits) {
        const record = kind === "undo" ? before : after, store = transaction.objectStore(table);
        if (record === undefined) store.delete(id);
        else store.put(record);
      }
      const changes = transaction.objectStore("changes");
      if (change) changes.put({ ...change, undone: kind === "undo" });
      for (const { change: other, undone } of amended) changes.put({ ...other, undone });
      for (const { number } of dropped) changes.delete(number);
    });
  }

  /** Keep a file of the user by the id of its picture. Rejects with QuotaExceededError where there is no room. */
  writeFile(id, file) {
    return this.#queue(["files"], (transaction) => transaction.objectStore("files").put(file, id));
  }

  /** @returns {Promise<Blob | undefined>} */
  readFile(id) {
    return settled(this.connection.transaction(["files"]).objectStore("files").get(id));
  }

  /** Forget everything. */
  clear() {
    const names = [...RECORDS, "changes", "files"];
    return this.#queue(names, (transaction) => names.forEach((name) => transaction.objectStore(name).clear()));
  }

  #queue(names, act) {
    const write = async () => {
      const transaction = this.connection.transaction(names, "readwrite"), end = finished(transaction);
      act(transaction);
      await end;
    };
    const written = this.writing.then(write);
    this.writing = written.catch(() => {});
    return written;
  }
}
