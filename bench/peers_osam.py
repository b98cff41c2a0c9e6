"""`osam serve` with MobileSAM: run by the Python of osam's environment, `peers_osam.py ENCODER DECODER PORT`.

osam has no MobileSAM of its own. Its class for SAM gets MobileSAM's encoder and segment-anything's decoder with
MobileSAM's weights, in ONNX; everything else is osam's.
"""

import hashlib
import shutil
import sys
from pathlib import Path

import osam.apis
import osam.types
import uvicorn
from osam._models.sam._models import Sam


def store_blob(path: str) -> osam.types.Blob:
    """Return a file as one that osam has downloaded already."""
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    blob = osam.types.Blob(url=f"https://localhost/{Path(path).name}", hash=f"sha256:{digest}")
    Path(blob.path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, blob.path)
    return blob


class MobileSam(Sam):
    name = "mobile-sam:latest"
    _blobs = {"encoder": store_blob(sys.argv[1]), "decoder": store_blob(sys.argv[2])}  # noqa: RUF012


osam.apis.registered_model_types.append(MobileSam)
uvicorn.run("osam._server:app", host="127.0.0.1", port=int(sys.argv[3]))
