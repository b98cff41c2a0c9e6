// The same in a browser: the test calls `compare`.
import * as library from "/clients/js/src/index.js";
import { compareDecoding } from "./compare_decoding.mjs";

const vendor = "/clients/js/vendor/onnxruntime-web";
globalThis.compare = async ({ picture, ...options }) =>
  compareDecoding(library, {
    ...options,
    picture: new Blob([Uint8Array.from(atob(picture), (character) => character.charCodeAt(0))]),
    ortUrl: `${vendor}/ort.wasm.bundle.min.mjs`,
    wasmUrl: `${vendor}/ort-wasm-simd-threaded.wasm`,
  });
