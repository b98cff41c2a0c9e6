// Decodes prompts by the service and here, and tells how alike the masks are and how long both took.

/**
 * library: the modules of the client. requests: bodies of POST /v1/segment without image_id and model; `refine` is what
 * a second request adds, with the mask_id of the first answer.
 */
export async function compareDecoding({ Client, Segmenter, rle, runs }, { url, picture, model, ortUrl, wasmUrl, requests }) {
  const client = new Client({ baseUrl: url });
  const image = await client.uploadImage(picture, { model });
  const here = new Segmenter({ client, decode: "browser", ortUrl, wasmUrl });
  const there = new Segmenter({ client, decode: "server" });
  const results = [];
  for (const { refine, ...request } of requests) {
    const body = { image_id: image.image_id, model, ...request };
    const answers = [];
    for (const segmenter of [here, there]) {
      let answer = await segmenter.segment(body);
      if (refine) {
        const [{ mask_id }] = answer.results[0].masks;
        answer = await segmenter.segment({ ...body, prompts: [{ ...body.prompts[0], ...refine, mask_id }] });
      }
      answers.push(answer);
    }
    const [masks, others] = answers.map(({ results: [{ masks }] }) => masks);
    results.push({
      by: answers.map(({ decoded }) => decoded.by),
      ms: answers.map(({ decoded }) => decoded.ms),
      reason: here.choice(model).reason ?? null,
      areas: masks.map(({ area }) => area),
      ious: masks.map(({ mask }, i) => runs.iou(rle.decode(mask), rle.decode(others[i].mask))),
      scores: masks.map(({ score }, i) => Math.abs(score - others[i].score)),
      cleaned: [masks, others].map((some) => some.map(({ removed_parts, filled_holes }) => [removed_parts, filled_holes])),
    });
  }
  await here.close();
  return results;
}
