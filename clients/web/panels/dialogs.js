/** Dialogs: the sheet of keys, and export. */

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { actions, actionText } from "../keys/actions.js";
import { keyOf, keysOf, withKey } from "../keys/keymap.js";
import { texts } from "../texts/en.js";
import { exportDialog } from "./export.js";
import { modal } from "./modal.js";

let listening = null; // the action whose key is being pressed

export function dialogs(app) {
  const { dialog } = app.session;
  if (dialog === "keys") return keysDialog(app);
  return dialog === "export" ? exportDialog(app) : nothing;
}

function keysDialog(app) {
  const { session } = app, keys = keysOf(actions, session.keys);
  const onKey = (event) => {
    const key = keyOf(event);
    if (!listening || !key) return false;
    if (key !== "Esc") session.set({ keys: withKey(session.keys, actions, listening, key) });
    listening = null;
    session.dispatchEvent(new CustomEvent("change", { detail: new Set(["listening"]) }));
    return true;
  };
  const listen = (name) => {
    listening = name;
    session.dispatchEvent(new CustomEvent("change", { detail: new Set(["listening"]) }));
  };
  const shownKeys = (name) => keys.get(name).join(", ") || texts.keys.none;
  const row = ({ name }) => html`<div><dt>${actionText(name)}</dt><dd><button type="button" data-key-of=${name} aria-label=${texts.keys.change(actionText(name), shownKeys(name))} @click=${() => listen(name)}>
    ${listening === name ? texts.keys.press : keys.get(name).length ? keys.get(name).map((key) => html`<kbd>${key}</kbd>`) : texts.keys.none}</button></dd></div>`;
  const content = html`<p class="quiet">${texts.keys.intro} <button type="button" @click=${() => session.set({ keys: {} })}>${texts.keys.reset}</button></p>
    <div class="sheet">${Object.entries(texts.groups).map(([group, title]) => html`<section><h3>${title}</h3><dl>${actions.filter((action) => action.group === group).map(row)}</dl></section>`)}
    <section><h3>${texts.keys.mouse}</h3><dl>${texts.keys.mouseRows.map(([act, what]) => html`<div><dt>${what}</dt><dd>${act}</dd></div>`)}</dl></section></div>`;
  return modal(app, { id: "keys", title: texts.keys.title, content, onKey });
}
