"""The results of a job as a stream of bytes, in any format that its kind has."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from segserve.app import Service
from segserve.errors import MissingDependency
from segserve.jobs.engine.job import Job, JobKind
from segserve.wire.results import batch, frames
from segserve.wire.results.ctc_tracks import write_ctc
from segserve.wire.results.job_formats import COMMON_FORMATS, JobFormat, check_job_format


async def write_job_results(
    service: Service, job: Job, job_format: JobFormat, skip: int
) -> AsyncIterator[bytes]:
    """Write the results that are published by now. All errors are raised before the first part.

    skip: number of lines to leave out, for NDJSON.

    Raises BadInput where the job's kind has no such format or its file cannot be read, FileNotFound, TooLarge,
    MissingDependency, and Busy where too many results are being written.
    """
    check_job_format(job.kind, job_format)
    skipped = skip if job_format is JobFormat.NDJSON else 0

    async def read() -> AsyncIterator[bytes]:
        return await service.jobs.queue.read_results(job.tenant, job.job_id, skipped)

    if job.kind is JobKind.BATCH or job_format is JobFormat.NDJSON:
        return batch.write_batch_results(read, job_format)
    if job_format is JobFormat.CTC:
        parts = write_ctc(lambda: batch.parse_lines(read))
    else:
        parts = frames.write_frame_results(service, job, job_format)
    try:
        return await start_stream(limit_concurrency(service, parts))
    except MissingDependency as missing:
        missing.alternative = f"These formats need nothing more: {', '.join(COMMON_FORMATS)}."
        raise


async def limit_concurrency(service: Service, parts: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The same parts, while a slot of the rendering pool is taken. Raises Busy where none is free."""
    with service.rendering_pool.slot():
        async with aclosing(parts):
            async for part in parts:
                yield part


async def start_stream(parts: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The same parts, the first of them computed here, so that its errors are raised here."""
    first = await anext(parts, b"")

    async def stream() -> AsyncGenerator[bytes]:
        async with aclosing(parts):
            yield first
            async for part in parts:
                yield part

    return stream()
