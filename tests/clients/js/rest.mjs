// Calls every part of the REST client. Usage: node rest.mjs URL PICTURE STACK. Prints what was answered.
import { openAsBlob } from "node:fs";
import { Client, Problem, rle, runs } from "../../../clients/js/src/index.js";

const [url, picture, stack] = process.argv.slice(2);
const client = new Client({ baseUrl: `${url}/` });
const sent = [];
const image = await client.uploadImage(await openAsBlob(picture), {
  model: "starter",
  channels: [0],
  onProgress: (bytes, total) => sent.push([bytes, total]),
});
const answer = await client.segment({ image_id: image.image_id, prompts: [{ points: [[413, 190]], labels: [1] }] });
const [mask] = answer.results[0].masks;
const drawn = rle.decode(mask.mask);
const tiff = await client.automatic({ image_id: image.image_id, method: "ais", format: "tiff" });
const preview = await client.preview(image.image_id, { max: 64 });
const embedding = await client.embedding(image.image_id, { model: "starter" });

const file = await client.uploadFile(await openAsBlob(stack));
const frame = await client.imageOfFrame(file.file_id, 2);

const batch = { kind: "batch", input: { image_ids: [image.image_id] }, params: { operation: "embed" } };
const job = await client.submitJob(batch, { idempotencyKey: "once" });
const again = await client.submitJob(batch, { idempotencyKey: "once" });
const events = [];
for await (const event of client.jobEvents(job.job_id)) events.push(event);
const later = [];
for await (const event of client.jobEvents(job.job_id, { from: events[0].id })) later.push(event.id);
const lines = [];
for await (const line of client.jobResults(job.job_id)) lines.push(line);

/** What a refusal says. */
const refusal = async (call) => {
  try {
    await call();
  } catch (error) {
    return error instanceof Problem ? { status: error.status, code: error.code, field: error.field ?? null } : String(error);
  }
  return null;
};
const stopped = new AbortController();
stopped.abort();

console.log(
  JSON.stringify({
    image,
    models: (await client.models()).map(({ name }) => name),
    sent: [sent.at(-1)[0] === sent.at(-1)[1], sent.at(-1)[1]],
    area: [mask.area, runs.area(drawn)],
    box: [mask.box, runs.boundingBox(drawn, image.height)],
    tiff: [tiff.type, tiff.size > 1000],
    preview: [preview.type, preview.size > 100],
    previewUrl: (await fetch(client.previewUrl(image.image_id, 32))).headers.get("content-type"),
    tile: (await fetch(client.tileUrl(image.image_id, 0, 0, 0))).headers.get("content-type"),
    file: [file.frames, (await client.getFile(file.file_id)).kind],
    frame: [frame.width, frame.height],
    frameUrl: (await fetch(client.frameUrl(file.file_id, 2, { max: 16 }))).headers.get("content-type"),
    embedding: [embedding.data.byteLength > 1000, embedding.isTiled],
    job: [job.job_id === again.job_id, events.at(-1).event, events.at(-1).job.state],
    later: later.length === events.length - 1 && later.every((id, i) => id === events[i + 1].id),
    lines: lines.length,
    coco: (await client.downloadResults(job.job_id, { format: "ndjson" })).size > 0,
    missing: await refusal(() => client.getImage("0".repeat(64))),
    invalid: await refusal(() => client.segment({ image_id: image.image_id, prompts: [{ box: [9, 9, 1, 1] }] })),
    outside: await refusal(() => client.segment({ image_id: image.image_id, prompts: [{ points: [[9999, 1]] }] })),
    unreachable: await refusal(() => new Client({ baseUrl: "http://127.0.0.1:9", retries: 0 }).models()),
    aborted: await refusal(() => client.models({ signal: stopped.signal })),
    deleted: await client.deleteImage(image.image_id).then(() => refusal(() => client.getImage(image.image_id))),
  }),
);
