"""Warm-up: every graph runs once on an empty image before the service is ready, so that no user waits for the first."""

import asyncio
import gc
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import structlog

from segserve.decode.decode_prompt import decode_prompt
from segserve.encode.prepared_cache import PreparedImage
from segserve.errors import BadInput, OutOfMemory, SegserveError
from segserve.models.promptable_model import FOLD_BELOW_TOKENS, PromptableModel
from segserve.models.registry import ModelRegistry
from segserve.settings import Settings
from segserve.timing import Timings
from segserve.types import Embedding, Prompt, Select, Size

OK = "ok"

log = structlog.get_logger(__name__)


class WarmUp:
    """`WarmUp` loads the default model and the preloaded ones, and runs all their graphs once.

    encodes: this process runs encoders.
    runs_decoders: it decodes prompts and segments whole images.
    state: "loading", "ok", or the reason of the failure.
    """

    def __init__(
        self, registry: ModelRegistry, settings: Settings, *, encodes: bool, runs_decoders: bool
    ) -> None:
        self._registry, self._max_batch = registry, settings.max_batch
        self._names = list(dict.fromkeys((settings.default_model, *settings.preload)))
        self._encodes, self._runs_decoders = encodes, runs_decoders
        self.state = "loading"
        self._graphs_run: Future[None] | None = None

    @property
    def is_done(self) -> bool:
        return self.state == OK

    def begin(self) -> Future[None]:
        """Load and run in a thread, beside whatever the process does to start. Only the first call begins."""
        if self._graphs_run is None:
            executor = ThreadPoolExecutor(1, "warm-up")
            self._graphs_run = executor.submit(self._load_and_run)
            executor.shutdown(wait=False)  # the thread ends with its work
        return self._graphs_run

    async def run(self) -> None:
        """Wait for what was begun, or begin it."""
        try:
            await asyncio.wrap_future(self.begin())
            keep_from_collector()
            self.state = OK
        except SegserveError as error:
            self.state = str(error)
            log.error("warm-up failed", reason=str(error))

    def _load_and_run(self) -> None:
        for name in self._names:
            self._run_graphs(self._registry.load(name, PromptableModel))

    def _run_graphs(self, model: PromptableModel) -> None:
        embedding = (
            encode_empty_image(model, self._max_batch) if self._encodes else create_empty_embedding(model)
        )
        if self._runs_decoders:
            click_on_empty_image(model, embedding)
            if model.has_ais_decoder:
                model.predict_ais_maps(embedding)


def keep_from_collector() -> None:
    """Let the garbage collector pass over all objects that are there now: modules, routes, models.

    They stay anyway. A collection that visits them takes 0.1 s, and nothing else runs meanwhile.
    """
    gc.collect()
    gc.freeze()


def create_empty_embedding(model: PromptableModel) -> Embedding:
    """Return zeros in the shapes of the model's embedding."""
    dims = model.manifest.dims
    high_res = {f"high_res_{i}": np.zeros(shape, np.float32) for i, shape in enumerate(dims.high_res)}
    return {"embedding": np.zeros(dims.embedding, np.float32), **high_res}


def encode_empty_image(model: PromptableModel, max_batch: int) -> Embedding:
    """Encode a batch of `max_batch` empty images, then one alone; return the embedding of that."""
    edge = model.preprocess.input_size
    images = np.zeros((max_batch, 3, edge, edge), np.float32)
    if max_batch > 1:
        with suppress(OutOfMemory):  # the encoder halves batches that do not fit on the device
            model.encode_batch(images)
    return model.encode(images[:1])


def click_on_empty_image(model: PromptableModel, embedding: Embedding) -> None:
    """Decode one point, one point on a mask, and the number of points from which another graph is used."""
    edge, low = model.preprocess.input_size, model.manifest.dims.low
    image = PreparedImage(Size(edge, edge), embedding, model.prepare(embedding, None))
    for count, prior in ((1, None), (1, np.zeros((low, low), np.float32)), (FOLD_BELOW_TOKENS, None)):
        middle = Prompt(np.full((count, 2), edge / 2, np.float32), np.ones(count, np.int64), logits=prior)
        with suppress(BadInput):  # some models take no mask, or few points
            decode_prompt(model, image, middle, None, Select.BEST, Timings(), raw=False)
