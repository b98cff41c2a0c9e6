"""The results of a job in the format that is asked for, made of the kept run lengths as they are read."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from segserve.app import Service
from segserve.jobs.engine.job import Job, JobKind
from segserve.wire.results import batch, frames
from segserve.wire.results.ctc_tracks import write_ctc
from segserve.wire.results.job_formats import JobFormat, check_job_format


async def write_job_results(service: Service, job: Job, asked: JobFormat, after: int) -> AsyncIterator[bytes]:
    """What is published now. after: lines to leave out, of NDJSON. What can be wrong is found before the first part:
    raises BadInput where the job's kind has no such format or its file cannot be read, FileNotFound, TooLarge,
    MissingDependency, and Busy where too much is being made."""
    check_job_format(job.kind, asked)

    skipped = after if asked is JobFormat.NDJSON else 0

    async def read() -> AsyncIterator[bytes]:
        return await service.jobs.queue.read_results(job.tenant, job.job_id, skipped)

    if job.kind is JobKind.BATCH or asked is JobFormat.NDJSON:
        return batch.write_batch_results(read, asked)
    made = (
        write_ctc(lambda: batch.parse_lines(read))
        if asked is JobFormat.CTC
        else frames.write_frame_results(service, job, asked)
    )

    async def placed() -> AsyncGenerator[bytes]:
        with service.rendering_pool.slot():
            async with aclosing(made) as parts:
                async for part in parts:
                    yield part

    parts = placed()
    first = await anext(parts, b"")

    async def begun() -> AsyncGenerator[bytes]:
        async with aclosing(parts):
            yield first
            async for part in parts:
                yield part

    return begun()
