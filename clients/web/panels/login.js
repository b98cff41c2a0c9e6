/**
 * The login: a dialog that asks for a key and exchanges it for a cookie, which no script can read. Requests of the page
 * wait meanwhile. It stands apart from the frame: at the start it comes before it.
 */

import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import { texts } from "../texts/en.js";

export class Login {
  /**
   * send(key): exchanges it, and resolves to the identity. onChange: called when requests begin or end to wait.
   * onDone(identity): called before they go on.
   */
  constructor({ send, onChange = () => {}, onDone = async () => {} }) {
    Object.assign(this, { send, onChange, onDone });
    this.place = document.createElement("div");
    this.place.id = "login-place";
    document.body.append(this.place);
    this.isAgain = false; // whether somebody was logged in before
    this.problem = null;
    this.isSending = false;
    /** @type {Promise<void> | null} */
    this.waiting = null;
  }

  /** Ask for a key, once for all that wait. Resolves when somebody has logged in. */
  ask() {
    if (!this.waiting) {
      this.waiting = new Promise((resolve) => (this.resolve = resolve));
      this.onChange();
      this.show();
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
    const { problem, isSending, isAgain } = this;
    const stop = (event) => event.stopPropagation(); // the page's keys rest
    const cancel = (event) => { if (!isAgain) event.preventDefault(); }; // there is nothing to see before
    render(html`<dialog id="login" aria-labelledby="login-title" aria-describedby="login-help" @keydown=${stop} @cancel=${cancel}>
      <form class="form" @submit=${(event) => this.#submit(event)}>
        <h2 id="login-title">${texts.login.title}</h2>
        <p id="login-help">${isAgain ? texts.login.helpAgain : texts.login.help}</p>
        <input type="text" name="username" value="segserve" autocomplete="username" hidden>
        <label><span>${texts.login.key}</span>
          <input id="login-key" name="key" type="password" autocomplete="current-password" autocapitalize="off" spellcheck="false" required autofocus></label>
        <div role="alert">${problem ? html`<p class="problem"><span><strong>${problem.detail}</strong> ${problem.remedy ?? ""}</span></p>` : nothing}</div>
        <div class="row">
          <button type="submit" class="primary" ?disabled=${isSending}>${isSending ? texts.login.working : texts.login.send}</button>
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

  #set(fields) {
    Object.assign(this, fields);
    this.draw();
  }
}
