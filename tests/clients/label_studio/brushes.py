"""Run lengths of brushes by Label Studio's own package: decode RLES.json VALUES.npz, or encode MASKS.npz RLES.json."""

import json
import sys
from pathlib import Path

import numpy as np
from label_studio_sdk.converter import brush

action, source, target = sys.argv[1:]
if action == "decode":
    np.savez(target, *[brush.decode_rle(rle) for rle in json.loads(Path(source).read_text())])
else:
    masks = np.load(source)
    rles = [brush.mask2rle(np.where(masks[name], 255, 0).astype(np.uint8)) for name in masks.files]
    Path(target).write_text(json.dumps(rles))
