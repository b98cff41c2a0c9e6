/** The bars over the picture: the object that is being made, and suggestions to decide on. */

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { texts } from "../texts/en.js";
import { actionButton } from "./buttons.js";

export function draftBar(app) {
  const { labelling, session } = app, { current } = labelling;
  if (!current) return nothing;
  const waits = current.pending ? (session.online ? texts.draft.working : texts.draft.waiting) : null;
  const sign = (value, text) => html`<button type="button" class=${`sign sign-${value}`} aria-pressed=${String(session.sign === value)} @click=${() => session.set({ sign: value })}>${text}</button>`;
  return html`<div class="bar draft" id="draft">
    <span class="signs" role="group" aria-label=${texts.draft.sign}>${sign(1, texts.draft.on)}${sign(0, texts.draft.off)}</span>
    ${current.candidates.length > 1 ? html`<span class="candidates" role="group" aria-label=${texts.object.candidates}>${current.candidates.map(({ score }, at) => html`
      <button type="button" aria-pressed=${String(current.candidate === at)} aria-label=${texts.object.candidate(at + 1, score)} title=${texts.object.candidate(at + 1, score)}
        @click=${() => labelling.chooseCandidate(at)}>${at + 1}</button>`)}</span>` : nothing}
    ${waits ? html`<span class="waits">${waits}</span>` : nothing}
    ${actionButton(app, "clear", { text: session.editing ? texts.object.stopEditing : texts.draft.clear, showKey: true })}
    ${session.editing ? nothing : actionButton(app, "accept", { text: texts.draft.accept, icon: "check", primary: true, showKey: true })}
  </div>`;
}

export function reviewBar(app) {
  const { labelling } = app, { suggestions } = labelling;
  if (!suggestions.length) return nothing;
  return html`<div class="bar review" id="review">
    <strong>${texts.review.title(suggestions.length)}</strong>
    ${labelling.suggestion ? html`${actionButton(app, "accept", { text: texts.review.accept, icon: "check", primary: true, showKey: true })}
      ${actionButton(app, "remove", { text: texts.review.reject, showKey: true })}` : nothing}
    ${actionButton(app, "skip", { text: texts.review.skip, showKey: true })}
    ${actionButton(app, "acceptAll", { text: texts.review.all })}
    <button type="button" @click=${() => labelling.rejectAll()}>${texts.review.none}</button>
  </div>`;
}
