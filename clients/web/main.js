/** Starts the page: what was saved, the frame, the service. */

import { Client } from "../js/src/client.js";
import { App, applyTheme } from "./app.js";
import { keyOf } from "./keys/keymap.js";
import { importFiles } from "./panels/export.js";
import { Frame } from "./panels/frame.js";
import { Login, takeSignInProblem } from "./panels/login.js";
import { filesOfInput, filesOfTransfer, PICTURE_ENDINGS } from "./pictures/open_files.js";
import { CLIP_ENDINGS } from "./timeline/timeline.js";
import { Database, DEFAULT_TENANT, nameFor } from "./state/database.js";
import { newClass } from "./state/new_records.js";
import { Session } from "./state/session.js";
import { Store } from "./state/store.js";
import { texts } from "./texts/en.js";

const TENANT_KEY = "segserve.tenant"; // whose work the tabs of this browser show

/**
 * Find out who the user is; where the service asks for a key, the user logs in first. null: the service is away. What
 * is kept in this browser is then that of the tenant who was here last.
 */
async function identify(client) {
  try {
    const who = await client.identity();
    rememberTenant(who.tenant);
    // The cookie is that of all tabs: none goes on with one tenant's pictures as another tenant.
    addEventListener("storage", ({ key, newValue }) => { if (key === TENANT_KEY && newValue !== who.tenant) location.reload(); });
    return who;
  } catch {
    return null;
  }
}

function rememberTenant(tenant) {
  try {
    localStorage.setItem(TENANT_KEY, tenant);
  } catch {
    // Private windows may refuse.
  }
}

function recallTenant() {
  try {
    return localStorage.getItem(TENANT_KEY) ?? DEFAULT_TENANT;
  } catch {
    return DEFAULT_TENANT;
  }
}

/** One tab at a time writes: two would undo each other's changes. Resolves to whether this one does. */
function takeLock(tenant) {
  if (!navigator.locks) return Promise.resolve(true);
  return new Promise((resolve) => {
    navigator.locks.request(nameFor(tenant, "segserve.labels"), { ifAvailable: true }, (lock) => {
      resolve(Boolean(lock));
      return lock && new Promise(() => {}); // held as long as the page is open
    });
  });
}

async function openDatabase(session, tenant) {
  if (!(await takeLock(tenant))) {
    session.set({ saving: "off" });
    return null;
  }
  try {
    const database = await Database.open(tenant);
    navigator.storage?.persist?.(); // asked for, so that the browser does not drop labels when room is scarce
    return database;
  } catch {
    session.set({ saving: "none" });
    return null;
  }
}

async function main() {
  const session = new Session(), store = new Store();
  applyTheme(session.theme);
  const login = new Login({
    send: (key) => client.login(key),
    listIssuers: () => client.issuers(),
    beginSignIn: (name) => client.beginSignIn(name),
    problem: takeSignInProblem(),
  });
  const client = new Client({ baseUrl: "", retries: 1, onUnauthenticated: () => login.ask() });
  session.set({ who: await identify(client) });
  session.set({ tenant: session.who?.tenant ?? recallTenant() });
  const database = await openDatabase(session, session.tenant);
  if (database) {
    store.restore(await database.load());
    store.addEventListener("change", ({ detail }) =>
      database.write(detail).catch(() => session.set({ saving: "full" })));
  }
  if (!store.document.classes.size) store.plant("classes", newClass(texts.defaultClass, 0));
  if (!store.document.pictures.has(session.picture)) session.set({ picture: store.document.listPictures()[0]?.id ?? null });

  const app = new App({ store, session, database, client, login }), frame = new Frame(app, document.getElementById("app"));
  app.mount(frame.elements);
  frame.watch();
  globalThis.segserve = app; // for the console, and for measurements
  listen(app);
  await app.start();
  await openAddress(app);
}

function listen(app) {
  app.fileInput.accept = `image/*,video/*,${PICTURE_ENDINGS},${CLIP_ENDINGS}`;
  app.fileInput.id = "file";
  for (const input of [app.fileInput, app.folderInput, app.labelInput]) {
    input.hidden = true;
    document.body.append(input);
  }
  for (const input of [app.fileInput, app.folderInput])
    input.addEventListener("change", async () => {
      await app.openFiles(filesOfInput(input));
      input.value = "";
    });
  app.labelInput.id = "labels";
  app.labelInput.addEventListener("change", async () => {
    await importFiles(app, [...app.labelInput.files]);
    app.labelInput.value = "";
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === " " && !event.target.closest?.("button, a, input, select, textarea, summary")) {
      app.pointer.spaceHeld = true;
      event.preventDefault();
    }
    if (keyOf(event) && app.press(event)) event.preventDefault();
  });
  document.addEventListener("keyup", (event) => { if (event.key === " ") app.pointer.spaceHeld = false; });
  document.addEventListener("paste", async (event) => {
    const files = await filesOfTransfer(event.clipboardData);
    if (files.length) app.openFiles(files);
  });
  for (const kind of ["dragover", "dragleave", "drop"])
    document.addEventListener(kind, async (event) => {
      event.preventDefault();
      document.body.classList.toggle("dragging", kind === "dragover");
      if (kind === "drop") app.openFiles(await filesOfTransfer(event.dataTransfer));
    });
  for (const kind of ["error", "unhandledrejection"])
    addEventListener(kind, (event) => {
      if ((event.error ?? event.reason)?.name !== "AbortError") app.showProblem({ detail: texts.service.unexpected, remedy: texts.service.unexpectedRemedy });
    });
}

/** A start state in the address, as `segserve demo` opens it: #image=IMAGE_ID&point=x,y&point=x,y, one for each object. */
async function openAddress(app) {
  const open = async () => {
    const start = new URLSearchParams(location.hash.slice(1)), id = start.get("image");
    if (!id) return;
    try {
      await app.openImage(id, start.getAll("point").map((point) => point.split(",").map(Number)), start.get("name") ?? undefined);
    } catch (problem) {
      app.showProblem(problem);
    }
  };
  addEventListener("hashchange", open);
  await open();
}

await main();
