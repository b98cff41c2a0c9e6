/** The worker that decodes: one order after another, each answered. */

import { DecoderHost } from "./decoder_host.js";

const host = new DecoderHost();
const scope = /** @type {any} */ (globalThis);
let last = Promise.resolve();

scope.onmessage = (/** @type {MessageEvent} */ { data: { number, order } }) => {
  last = last.then(async () => {
    try {
      scope.postMessage({ number, result: await host.perform(order) });
    } catch (error) {
      scope.postMessage({ number, error: error instanceof Error ? error.message : String(error) });
    }
  });
};
