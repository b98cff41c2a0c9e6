// Compares decoding in Node and by the service. Usage: node decode.mjs URL PICTURE MODEL ORT_FOLDER, requests on stdin.
// The folder has what a browser loads, the WebAssembly compressed.
import { openAsBlob, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { gunzipSync } from "node:zlib";
import * as library from "../../../clients/js/src/index.js";
import { compareDecoding } from "./compare_decoding.mjs";

const WASM = "ort-wasm-simd-threaded.wasm";
const [url, picture, model, folder] = process.argv.slice(2);
const ortUrl = pathToFileURL(`${folder}/ort.wasm.bundle.min.mjs`).href;
const ort = await import(ortUrl);
ort.env.wasm.wasmBinary = gunzipSync(readFileSync(`${folder}/${WASM}.gz`));
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const requests = JSON.parse(Buffer.concat(chunks));
const results = await compareDecoding(library, {
  url,
  picture: await openAsBlob(picture),
  model,
  ortUrl,
  wasmUrl: pathToFileURL(`${folder}/${WASM}`).href,
  requests,
});
console.log(JSON.stringify(results));
