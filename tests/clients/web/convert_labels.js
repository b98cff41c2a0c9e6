/**
 * For tests/clients/test_web_formats.py: labels as JSON to a file of a format, and back.
 *
 *     node convert_labels.js export FORMAT < labels.json > file
 *     node convert_labels.js import NAME < file > labels.json     (pictures: the environment variable PICTURES)
 */

import { readFileSync, writeSync } from "node:fs";

import { exportLabels, importLabels } from "../../../clients/web/formats/index.js";
import * as commands from "../../../clients/web/state/commands.js";
import { toLabels } from "../../../clients/web/state/labels.js";
import { newPicture } from "../../../clients/web/state/new_records.js";
import { Store } from "../../../clients/web/state/store.js";

const [, , direction, what] = process.argv, input = new Uint8Array(readFileSync(0));

function write(bytes) {
  for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at);
}

if (direction === "export") write((await exportLabels(what, JSON.parse(new TextDecoder().decode(input)))).bytes);
else {
  const store = new Store();
  store.run(commands.addPictures, JSON.parse(process.env.PICTURES).map((fields) => newPicture(fields.name, fields)));
  const { notes, ...records } = await importLabels([{ name: what, bytes: input }], store.document, { open: store.document.listPictures()[0].id });
  store.run(commands.importLabels, records);
  write(Buffer.from(JSON.stringify({ ...toLabels(store.document), notes })));
}
