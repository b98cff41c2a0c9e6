"""The client class of MONAI Label, as a user's script calls it. Prints one line of JSON.

Arguments: the service's address, a volume (.nrrd), a picture, i, j and k of a point.
"""

import json
import shutil
import sys

from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException

url, volume, picture, *point = sys.argv[1:]
point = [int(value) for value in point]
client = MONAILabelClient(f"{url}/monai", client_id="user-xyz")
assert not client.auth_enabled()
models = client.info()["models"]
clicks = {"foreground": [point], "background": []}


def keep(label, name):
    """The client writes answers to files without a name of ours."""
    path = volume.replace(".nrrd", f"-{name}.nrrd")
    shutil.copy(label, path)
    return path


session = client.create_session(volume)["session_id"]
assert client.get_session(session)["name"].endswith(".nrrd")
label, details = client.infer(
    "starter_2d",
    "",
    {**clicks, "slice": point[2], "label": "object", "result_dtype": "uint8"},
    session_id=session,
)
by_session = keep(label, "session")
client.remove_session(session)
try:
    client.get_session(session)
    ended = False
except MONAILabelClientException as error:
    ended = error.status_code == 404

client.upload_image(volume, "case 1")
label, _ = client.infer("starter_3d", "case 1", dict(clicks))
through = keep(label, "3d")
client.save_label("case 1", through, params={"label_info": [{"name": "object", "idx": 1}]})
downloaded = keep(client.download_label("case 1", "final"), "downloaded")
stored = client.datastore()["objects"]

mask, _ = client.infer("starter_2d", "", {"foreground": [[413, 190]], "background": []}, file=picture)
try:
    client.infer("starter_2d", "nothing", dict(clicks))
    refusal = ""
except MONAILabelClientException as error:
    refusal = error.msg
print(
    json.dumps(
        {
            "models": sorted(models),
            "by_session": by_session,
            "details": details,
            "ended": ended,
            "through": through,
            "downloaded": downloaded,
            "labels": list(stored["case 1"]["labels"]),
            "mask": mask,
            "refusal": refusal,
            "training": client.train_status(check_if_running=True),
            "next": client.next_sample("first", {}),
        }
    )
)
