"""Uses nninteractive-client as a viewer does. Arguments: the URL of the service, and a file of numpy with the arrays
`image` and `truth`."""

import json
import sys

import httpx
import numpy as np
from nnInteractive.inference.remote.remote_session import (
    ServerAtCapacityError,
    SessionExpiredError,
    nnInteractiveRemoteInferenceSession,
)

url, file = sys.argv[1:]
arrays = np.load(file)
image, truth = arrays["image"], arrays["truth"]
centre = np.argwhere(truth).mean(axis=0).round().astype(int)
session = nnInteractiveRemoteInferenceSession(f"{url}/nninteractive")
assert session.ping()
assert session.supports_undo
session.set_image(image[np.newaxis], {"spacing": np.array([2.0, 1.0, 1.0])})
mask = np.zeros(image.shape, np.uint8)
session.set_target_buffer(mask)


def iou() -> float:
    return float(np.count_nonzero((mask > 0) & truth) / np.count_nonzero((mask > 0) | truth))


box = session.add_point_interaction(tuple(centre), include_interaction=True)
by_point = iou()
first = mask.copy()
z, y, x = (int(place) for place in centre)
session.add_bbox_interaction([[z, z + 1], [y - 6, y + 6], [x - 6, x + 6]], include_interaction=True)
changed = not np.array_equal(mask, first)
undone = session.undo() and np.array_equal(mask, first)
assert session.undo()
assert not mask.any()
try:
    nnInteractiveRemoteInferenceSession(f"{url}/nninteractive")
    refused = ""
except ServerAtCapacityError as error:
    refused = str(error)
refusal = ""
try:
    session.add_bbox_interaction([[0, 3], [0, 9], [0, 9]], include_interaction=True)
except httpx.HTTPStatusError as error:
    refusal = error.response.json()["detail"]
assert "several slices" in refusal
session.reset_interactions()
lasso = truth[z : z + 1].astype(np.uint8)
session.add_lasso_interaction(
    lasso, True, run_prediction=False, interaction_bbox=[[z, z + 1], [0, truth.shape[1]], [0, truth.shape[2]]]
)
scribble = np.zeros(truth.shape, np.uint8)
scribble[z + 1, y - 2 : y + 3, x] = 1
session.add_scribble_interaction(scribble, True, run_prediction=False)
assert not mask.any()
session._predict()
by_drawing = iou()
session.reset_interactions()
session.add_initial_seg_interaction(truth.astype(np.uint8), run_prediction=True)
by_seed = iou()
assert session.heartbeat() > 0
assert session.lease_status()["remaining_seconds"] > 0
token = session._lease_token
session.close()
with nnInteractiveRemoteInferenceSession(f"{url}/nninteractive/models/starter") as other:
    other._http.headers["X-Lease-Token"] = token
    try:
        other.undo()
        ended = ""
    except SessionExpiredError as error:
        ended = str(error)
    other._http.headers["X-Lease-Token"] = other._lease_token  # which it releases
print(
    json.dumps(
        {
            "box": box,
            "by_point": by_point,
            "changed": changed,
            "undone": bool(undone),
            "refused": refused,
            "by_drawing": by_drawing,
            "by_seed": by_seed,
            "ended": ended,
        }
    )
)
