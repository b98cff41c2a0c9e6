/**
 * The login: a dialog that asks for a key and exchanges it for a cookie, which no script can read. Requests of the page
 * wait meanwhile. It stands apart from the frame: at the start it comes before it.
 *
 * Where there are issuers, it also sends the browser to the login of one of them. The page then begins anew, with the
 * cookie, or with the reason why not in its address.
 */

import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import { texts } from "../texts/en.js";

const ADDRESS_KEY = "segserve.address"; // what the address said before the browser was sent to an issuer
const FAILED = /^#sign-in=(\w+)$/;

function keepAddress() {
  try {
    sessionStorage.setItem(ADDRESS_KEY, location.hash);
  } catch {
    // Private windows may refuse: the page then begins as if nothing had been said.
  }
}

/** Return why a sign-in failed, as the address says, and put back what it said before. null: none has. */
export function takeSignInProblem() {
  const failed = FAILED.exec(location.hash);
  let before = "";
  try {
    before = sessionStorage.getItem(ADDRESS_KEY) ?? "";
    sessionStorage.removeItem(ADDRESS_KEY);
  } catch {
    // Private windows may refuse.
  }
  if (failed || (before && !location.hash)) history.replaceState(null, "", `${location.pathname}${before}`);
  const [detail, remedy] = (failed && Object.hasOwn(texts.login.failed, failed[1]) && texts.login.failed[failed[1]]) || [];
  return detail ? { detail, remedy } : null;
}

export class Login {
  /**
   * send(key): exchanges it, and resolves to the identity. listIssuers(): resolves to [{name}]. beginSignIn(name): resolves
   * to the address to leave for. problem: of a sign-in that failed, or null. onChange: called when requests begin or end
   * to wait. onDone(identity): called before they go on.
   */
  constructor({ send, listIssuers, beginSignIn, problem = null, onChange = () => {}, onDone = async () => {} }) {
    Object.assign(this, { send, listIssuers, beginSignIn, problem, onChange, onDone });
    this.issuers = [];
    this.place = document.createElement("div");
    this.place.id = "login-place";
    document.body.append(this.place);
    this.isAgain = false; // whether somebody was logged in before
    this.isSending = false;
    this.isLeaving = false; // for an issuer
    /** @type {Promise<void> | null} */
    this.waiting = null;
  }

  /** Ask for a key, once for all that wait. Resolves when somebody has logged in. */
  ask() {
    if (!this.waiting) {
      this.waiting = new Promise((resolve) => (this.resolve = resolve));
      this.onChange();
      this.show();
      this.listIssuers().then((issuers) => this.#set({ issuers }), () => {}); // keys do without
    }
    return this.waiting;
  }

  get dialog() {
    return this.place.querySelector("dialog");
  }

  show() {
    this.draw();
    if (!this.dialog.open) this.dialog.showModal();
  }

  /** Close the dialog; what waits goes on to wait. */
  hide() {
    this.dialog?.close();
  }

  draw() {
    const { problem, isSending, isLeaving, isAgain, issuers } = this;
    const stop = (event) => event.stopPropagation(); // the page's keys rest
    const cancel = (event) => { if (!isAgain) event.preventDefault(); }; // there is nothing to see before
    render(html`<dialog id="login" aria-labelledby="login-title" aria-describedby="login-help" @keydown=${stop} @cancel=${cancel}>
      <form class="form" @submit=${(event) => this.#submit(event)}>
        <h2 id="login-title">${texts.login.title}</h2>
        <p id="login-help">${isAgain ? texts.login.helpAgain : issuers.length ? texts.login.helpIssuers : texts.login.help}</p>
        ${issuers.length ? html`<div class="issuers">${issuers.map(({ name }) => html`<button type="button" class="primary" ?disabled=${isLeaving} @click=${() => this.#leave(name)}>${texts.login.signIn(name)}</button>`)}
          <p>${isLeaving ? texts.login.leaving : texts.login.or}</p></div>` : nothing}
        <input type="text" name="username" value="segserve" autocomplete="username" hidden>
        <label><span>${texts.login.key}</span>
          <input id="login-key" name="key" type="password" autocomplete="current-password" autocapitalize="off" spellcheck="false" required autofocus></label>
        <div role="alert">${problem ? html`<p class="problem"><span><strong>${problem.detail}</strong> ${problem.remedy ?? ""}</span></p>` : nothing}</div>
        <div class="row">
          <button type="submit" class=${issuers.length ? "" : "primary"} ?disabled=${isSending}>${isSending ? texts.login.working : texts.login.send}</button>
          ${isAgain ? html`<button type="button" id="login-later" @click=${() => this.hide()}>${texts.login.later}</button>` : nothing}
        </div>
      </form>
    </dialog>`, this.place);
  }

  async #submit(event) {
    event.preventDefault();
    const field = this.dialog.querySelector("#login-key");
    this.#set({ isSending: true, problem: null });
    try {
      const identity = await this.send(field.value.trim());
      field.value = "";
      this.hide();
      await this.onDone(identity);
      const { resolve } = this;
      Object.assign(this, { waiting: null, isAgain: true });
      resolve();
      this.onChange();
    } catch (problem) {
      this.problem = problem;
      field.select();
    } finally {
      this.#set({ isSending: false });
    }
  }

  /** Send the browser to an issuer. What the address says comes back after it. */
  async #leave(name) {
    this.#set({ isLeaving: true, problem: null });
    try {
      const address = await this.beginSignIn(name);
      keepAddress();
      location.assign(address);
    } catch (problem) {
      this.#set({ isLeaving: false, problem });
    }
  }

  #set(fields) {
    Object.assign(this, fields);
    this.draw();
  }
}
