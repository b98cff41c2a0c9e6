"""The time of a click that the browser decodes, by the fast decoder and by the stock graph, against the service's."""

import base64
import functools
import http.server
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tests.clients.test_js_decoding import ClientFiles
from tests.docs_blocks import ROOT
from tests.serving import Server

from bench.measuring import Measurement
from bench.page_driver import open_browser

ROUNDS = 20
# Clicks take turns: the service, the fast decoder, the stock graph of segment-anything's interface.
CLICKS = """async ({ url, picture, model, rounds }) => {
  const { Client } = await import("/clients/js/src/index.js");
  const { FastDecoder, loadOrt } = await import("/clients/js/src/decode/fast_decoder.js");
  const { scalePoints } = await import("/clients/js/src/decode/geometry.js");
  const { toFloat32 } = await import("/clients/js/src/decode/float16.js");
  const { parseSafetensors } = await import("/clients/js/src/decode/safetensors.js");
  const vendor = "/clients/js/vendor/onnxruntime-web";
  const times = {};
  const measure = async (name, call) => {
    const start = performance.now();
    const result = await call();
    (times[name] ??= []).push(performance.now() - start);
    return result;
  };
  const client = new Client({ baseUrl: url });
  const bytes = Uint8Array.from(atob(picture), (character) => character.charCodeAt(0));
  const image = await client.uploadImage(new Blob([bytes]), { model });
  await client.embedding(image.image_id, { model });
  const { data } = await measure("embedding", () => client.embedding(image.image_id, { model }));
  const ort = await measure("load", async () =>
    loadOrt(`${vendor}/ort.wasm.bundle.min.mjs`, `${vendor}/ort-wasm-simd-threaded.wasm`));
  const decoder = await client.decoder(model);
  const fast = new FastDecoder(ort, decoder);
  for (const { name } of decoder.graphs) {
    if (name === "fast_decoder_many.onnx") continue;
    const graph = await client.decoderGraph(model, name);
    await measure("load", () => fast.open({ [name]: graph }));
  }
  await measure("prepare", () => fast.add(image.image_id, image, data));
  const stockFile = await (await client.http.send(`/v1/models/${model}/decoder.onnx`)).arrayBuffer();
  const stock = await ort.InferenceSession.create(new Uint8Array(stockFile), { executionProviders: ["wasm"] });
  const { Tensor } = ort, low = decoder.low_res;
  const stockName = (name) => (name === "embedding" ? "image_embeddings" : name.replace("high_res", "high_res_feats"));
  const features = Object.entries(parseSafetensors(data)).map(([name, { shape, data: halves }]) =>
    [stockName(name), new Tensor("float32", toFloat32(halves), [1, ...shape])]);
  const inputs = {
    ...Object.fromEntries(features),
    mask_input: new Tensor("float32", new Float32Array(low * low), [1, 1, low, low]),
    has_mask_input: new Tensor("float32", Float32Array.of(0), [1]),
    orig_im_size: new Tensor("float32", Float32Array.of(image.height, image.width), [2]),
    point_labels: new Tensor("float32", Float32Array.of(1, -1), [1, 2]),
  };
  for (let i = 0; i < rounds; i++) {
    const point = [380 + 3 * i, 170 + 2 * i];
    const body = { image_id: image.image_id, model, prompts: [{ points: [point] }] };
    await measure("service", () => client.segment(body));
    const prompt = { points: [point], labels: [1], box: null, prior: null };
    await measure("fast", () => fast.segment(image.image_id, prompt, {}));
    const [[x, y]] = scalePoints([point], decoder, image);
    const coords = new Tensor("float32", Float32Array.of(x, y, 0, 0), [1, 2, 2]);
    await measure("stock", () => stock.run({ ...inputs, point_coords: coords }));
  }
  return times;
}"""


@contextmanager
def serve_client_files() -> Iterator[str]:
    handler = functools.partial(ClientFiles, directory=ROOT)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as static:
        threading.Thread(target=static.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{static.server_port}"
        static.shutdown()


def measure_model(page: Any, url: str, model: str) -> Iterator[Measurement]:
    picture = base64.b64encode((ROOT / "examples" / "nuclei.png").read_bytes()).decode()
    options = {"url": url, "picture": picture, "model": model, "rounds": ROUNDS}
    times = page.evaluate(CLICKS, options)
    for name, label in {
        "service": "a click, the service over loopback",
        "fast": "a click in the browser, fast decoder",
        "stock": "the same in the browser by the stock graph, the mask alone",
    }.items():
        counted = np.array(times[name][2:])
        yield Measurement(f"{model}: {label}", f"{np.median(counted):.0f} ms, at best {counted.min():.0f} ms")
    yield Measurement(f"{model}: once, opening runtime and graphs", f"{sum(times['load']):.0f} ms")
    yield Measurement(
        f"{model}: once for each image, preparing its embedding", f"{times['prepare'][0]:.0f} ms"
    )
    ratio = np.median(times["stock"][2:]) / np.median(times["fast"][2:])
    yield Measurement(f"{model}: the stock graph takes", f"{ratio:.2f}x", ">= 1x", bool(ratio >= 1))


def measure() -> Iterator[Measurement]:
    """Yield rows for the starter, and for MobileSAM where BENCH_MODELS names a data folder that has it."""
    models = ["starter"]
    with open_browser() as browser, tempfile.TemporaryDirectory() as folder, serve_client_files() as origin:
        data_dir = Path(folder)
        pulled = Path(os.environ.get("BENCH_MODELS", "")) / "models" / "mobile-sam"
        if pulled.is_dir():
            (data_dir / "models").mkdir()
            (data_dir / "models" / "mobile-sam").symlink_to(pulled.absolute())
            models.append("mobile-sam")
        server = Server(data_dir, cors_origins=f'["{origin}"]')
        server.wait_ready()
        ClientFiles.policy = (
            f"script-src 'self' 'wasm-unsafe-eval' 'unsafe-eval'; connect-src 'self' {server.url}"
        )
        page = browser.new_page()
        page.set_default_timeout(0)
        page.goto(origin)
        for model in models:
            yield from measure_model(page, server.url, model)
        server.stop()
