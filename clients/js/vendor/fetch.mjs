// Fetches ONNX Runtime Web from npm as published, checks it by the registry's digest, and writes VENDORED.md. Its
// WebAssembly is kept compressed. Run it by `npm run vendor` after a change of the version.
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { gunzipSync, gzipSync } from "node:zlib";

const NAME = "onnxruntime-web";
const VERSION = "1.30.0";
const INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==";
// The smallest set that decodes: no WebGPU, no WebGL.
const FILES = ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"];
const FOLDER = new URL(`${NAME}/`, import.meta.url);
const BLOCK = 512;

const digest = (algorithm, content, encoding) => createHash(algorithm).update(content).digest(encoding);

/** The files of a tar archive by name. */
function readTar(archive) {
  const files = new Map();
  const text = (from, length) => archive.subarray(from, from + length).toString("latin1").replace(/\0.*$/s, "");
  for (let at = 0; at + BLOCK <= archive.length && archive[at]; ) {
    const size = parseInt(text(at + 124, 12), 8);
    const prefix = text(at + 345, 155);
    files.set(`${prefix && `${prefix}/`}${text(at, 100)}`, archive.subarray(at + BLOCK, at + BLOCK + size));
    at += BLOCK * (1 + Math.ceil(size / BLOCK));
  }
  return files;
}

const answer = await fetch(`https://registry.npmjs.org/${NAME}/-/${NAME}-${VERSION}.tgz`);
if (!answer.ok) throw new Error(`npm answered ${answer.status}`);
const packed = Buffer.from(await answer.arrayBuffer());
const found = `sha512-${digest("sha512", packed, "base64")}`;
if (found !== INTEGRITY) throw new Error(`${NAME} ${VERSION} has the digest ${found}, not ${INTEGRITY}`);
const files = readTar(gunzipSync(packed));

await mkdir(FOLDER, { recursive: true });
const rows = [];
for (const name of FILES) {
  let content = files.get(`package/dist/${name}`);
  // Browsers would look for the source map when a developer opens their tools.
  if (name.endsWith(".mjs")) content = Buffer.from(content.toString().replace(/^\/\/# sourceMappingURL=.*\n?/m, ""));
  const isWasm = name.endsWith(".wasm");
  await writeFile(new URL(isWasm ? `${name}.gz` : name, FOLDER), isWasm ? gzipSync(content, { level: 9 }) : content);
  rows.push(`| \`${NAME}/${name}${isWasm ? ".gz" : ""}\` | ${content.length.toLocaleString("en")} | \`${digest("sha256", content, "hex")}\` |`);
}
await writeFile(
  new URL("VENDORED.md", import.meta.url),
  `# Vendored

[${NAME}](https://www.npmjs.com/package/${NAME}/v/${VERSION}) ${VERSION}, MIT licence, Copyright (c) Microsoft Corporation: what
the page decodes clicks with. Browsers fetch it only when they decode. Written by \`npm run vendor\`, which checks the
package by the registry's digest. It changes nothing but the comment that names a source map, and compresses the WebAssembly.

| file | bytes, before compression | SHA-256, before compression |
|---|---|---|
${rows.join("\n")}
`,
);
