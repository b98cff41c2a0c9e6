"""Uploads a picture, clicks on it and runs a job, by the client that openapi-python-client generates. Nothing is cast.

Usage: python python_first_click.py URL PICTURE, with the generated package segserve_api on the path.
"""

import json
import sys
import time
from pathlib import Path

from segserve_api import Client
from segserve_api.api.images import get_image, upload_image
from segserve_api.api.jobs import get_job, submit_job
from segserve_api.api.segment import segment_image
from segserve_api.models import (
    BatchIn,
    BatchInputIn,
    BatchParamsIn,
    BatchParamsInOperation,
    ImageOut,
    JobOut,
    JobOutState,
    MaskFormat,
    PolygonOut,
    ProblemOut,
    PromptIn,
    Rle,
    SegmentIn,
    SegmentOut,
    UploadImageFilesBody,
)
from segserve_api.types import File


def main(url: str, picture: Path) -> None:
    client = Client(url, raise_on_unexpected_status=True)
    with picture.open("rb") as file:
        image = upload_image.sync(client=client, body=UploadImageFilesBody(File(file, picture.name)))
    assert isinstance(image, ImageOut)

    click = SegmentIn(image.image_id, [PromptIn(points=[[413, 190]])])
    clicked = segment_image.sync(client=client, body=click)
    assert isinstance(clicked, SegmentOut)
    [mask] = clicked.results[0].masks
    assert isinstance(mask.mask, Rle)

    click.format_ = MaskFormat.POLYGON
    outlined = segment_image.sync(client=client, body=click)
    assert isinstance(outlined, SegmentOut)
    outline = outlined.results[0].masks[0].mask
    assert isinstance(outline, PolygonOut)

    batch = BatchIn(
        "batch", BatchInputIn(image_ids=[image.image_id]), BatchParamsIn(BatchParamsInOperation.EMBED)
    )
    job = submit_job.sync(client=client, body=batch)
    while isinstance(job, JobOut) and job.state in (JobOutState.QUEUED, JobOutState.RUNNING):
        time.sleep(0.1)
        job = get_job.sync(job.job_id, client=client)
    assert isinstance(job, JobOut)

    refusal = get_image.sync("nope", client=client)
    assert isinstance(refusal, ProblemOut)
    print(
        json.dumps(
            {
                "image_id": image.image_id,
                "area": mask.area,
                "mask": "rle of " + " x ".join(map(str, mask.mask.size)),
                "polygon": f"polygon of {len(outline.coordinates)} rings",
                "state": job.state,
                "refusal": refusal.type_,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
