// Uploads a picture, clicks on it and runs a job, by the client that openapi-typescript generates. Nothing is cast.
// Usage: node first_click.js URL PICTURE
import createClient from "openapi-fetch";
import { openAsBlob } from "node:fs";
import type { components, paths } from "./api.js";

type Mask = components["schemas"]["MaskOut"]["mask"];

const [url = "", picture = ""] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url });

/** What a call answered. Throws its refusal. */
function unwrap<T>({ data, error }: { data?: T; error?: components["schemas"]["ProblemOut"] }): T {
  if (data === undefined) throw new Error(`${error?.detail} ${error?.remedy ?? ""}`);
  return data;
}

/** The number of run lengths, rings or bytes of a mask: every format has its type. */
function describe(mask: Mask): string {
  if (typeof mask === "string") return `png of ${mask.length} characters`;
  if ("counts" in mask) return `rle of ${mask.size.join(" x ")}`;
  if ("data" in mask) return `logits of ${mask.size.join(" x ")}`;
  return mask.type === "Polygon" ? `polygon of ${mask.coordinates.length} rings` : `${mask.coordinates.length} polygons`;
}

const form = new FormData();
form.append("file", await openAsBlob(picture), "picture.png");
const image = unwrap(await client.POST("/v1/images", { body: form }));

const clicked = unwrap(
  await client.POST("/v1/segment", { body: { image_id: image.image_id, prompts: [{ points: [[413, 190]] }] } }),
);
const [mask] = clicked.results[0]?.masks ?? [];
if (!mask) throw new Error("no mask");

const polygons = unwrap(
  await client.POST("/v1/segment", {
    body: { image_id: image.image_id, prompts: [{ points: [[413, 190]] }], format: "polygon" },
  }),
);

let job = unwrap(
  await client.POST("/v1/jobs", {
    body: { kind: "batch", input: { image_ids: [image.image_id] }, params: { operation: "embed" } },
  }),
);
while (job.state === "queued" || job.state === "running") {
  await new Promise((done) => setTimeout(done, 100));
  job = unwrap(await client.GET("/v1/jobs/{job_id}", { params: { path: { job_id: job.job_id } } }));
}

const unknown = await client.GET("/v1/images/{image_id}", { params: { path: { image_id: "nope" } } });
console.log(
  JSON.stringify({
    image_id: image.image_id,
    area: mask.area,
    mask: describe(mask.mask),
    polygon: describe(polygons.results[0]!.masks[0]!.mask),
    state: job.state,
    refusal: unknown.error?.type,
  }),
);
