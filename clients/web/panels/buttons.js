/** Buttons that run actions. Their tips show the text and the key. */

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { actionByName, actions, actionText } from "../keys/actions.js";
import { keysOf } from "../keys/keymap.js";
import { icon as drawIcon } from "./icons.js";

/** The first key of an action, as the user has it; "" for none. */
export const keyFor = ({ session }, name) => keysOf(actions, session.keys).get(name)?.[0] ?? "";

/** text: shown beside the icon; without it the button shows the icon alone. */
export function actionButton(app, name, { icon = null, text = null, pressed = null, primary = false, plain = false, showKey = false } = {}) {
  const key = keyFor(app, name), label = actionText(name), isOn = !app.labelling || actionByName.get(name).isOn(app);
  return html`<button type="button" data-action=${name} class=${[primary && "primary", plain && "plain", !text && "icon-only"].filter(Boolean).join(" ")}
    title=${key ? `${label} (${key})` : label} aria-label=${text ? nothing : label} aria-pressed=${pressed === null ? nothing : String(pressed)}
    aria-keyshortcuts=${key ? key.replace("Ctrl", "Control") : nothing}
    ?disabled=${!isOn} @click=${() => app.run(name)}>${icon ? drawIcon(icon) : nothing}${text ? html`<span>${text}</span>` : nothing}${showKey && key ? html`<kbd>${key}</kbd>` : nothing}</button>`;
}
