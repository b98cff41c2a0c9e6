/** A modal dialog: it has the focus until it is closed, and the keys of the page rest. */

import { html } from "../vendor/lit-html/lit-html.js";
import { ref } from "../vendor/lit-html/directives/ref.js";
import { texts } from "../texts/en.js";
import { icon } from "./icons.js";

const showModal = (element) => queueMicrotask(() => element?.isConnected && !element.open && element.showModal());

/** onKey(event): returns whether it has used the key. */
export function modal(app, { id, title, content, onKey = () => false }) {
  const close = () => app.session.set({ dialog: null });
  const keydown = (event) => {
    event.stopPropagation();
    if (onKey(event)) event.preventDefault();
  };
  return html`<dialog id=${id} aria-labelledby=${`${id}-title`} @keydown=${keydown} @close=${close} @click=${(event) => { if (event.target === event.currentTarget) close(); }} ${ref(showModal)}>
    <h2 id=${`${id}-title`}>${title}<span class="spacer"></span><button type="button" class="plain icon-only" aria-label=${texts.keys.close} @click=${close}>${icon("close")}</button></h2>
    ${content}
  </dialog>`;
}

