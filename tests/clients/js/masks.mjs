// Reads masks as {size, counts, bitmap} from stdin, and prints for each what the client makes of it.
import { outline, rle, runs } from "../../../clients/js/src/index.js";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);

const results = JSON.parse(Buffer.concat(chunks)).map(({ size: [height, width], counts, bitmap, tolerance }) => {
  const mask = rle.decode({ size: [height, width], counts });
  const drawn = runs.fromBitmap(Buffer.from(bitmap, "base64"), { width, height });
  return {
    counts: rle.encode(drawn, width, height).counts,
    lengths: [...rle.parseCounts(counts)],
    bitmap: Buffer.from(runs.toBitmap(mask, height, [0, 0, width, height])).toString("base64"),
    area: runs.area(mask),
    box: runs.boundingBox(mask, height),
    polygon: outline.toPolygon(mask, height),
    simplified: outline.toPolygon(mask, height, tolerance),
  };
});
process.stdout.write(JSON.stringify(results));
