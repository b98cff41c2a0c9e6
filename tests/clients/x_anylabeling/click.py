"""Uses X-AnyLabeling's own client code without a screen. Arguments: the URL of the service, a picture, and the
first frame of a video in a folder of its own."""

import json
import sys

from anylabeling import config as tool_config
from anylabeling.services.auto_labeling.remote_server import RemoteServer
from PyQt6.QtGui import QImage
from PyQt6.QtWidgets import QApplication

url, picture, frame = sys.argv[1:]
application = QApplication([])
messages: list[str] = []
# As its file of settings has it.
tool_config.current_config_file = (
    f"remote_server_settings: {{server_url: '{url}/x-anylabeling', api_key: ''}}"
)
client = RemoteServer({"type": "remote_server", "name": "r", "display_name": "r"}, messages.append)
image = QImage(picture)
models = client.get_available_models()
assert "starter" in models, models
client.set_model_id("starter")
client.set_auto_labeling_marks([{"type": "point", "data": [413, 190], "label": 1}])
click = client.predict_shapes(image, picture)
assert click.replace is False
client.set_auto_labeling_marks([{"type": "point", "data": [99999, 190], "label": 1}])
failed = client.predict_shapes(image, picture)
assert failed.replace is False, "the labels of the image would be deleted"
assert failed.shapes == []
client.set_auto_labeling_marks([])
all_shapes = client.predict_shapes(image, picture)
assert messages == [], messages
client.set_model_id("starter@video")
client.set_auto_labeling_marks([{"type": "point", "data": [413, 190], "label": 1}])
in_video = client.predict_shapes(QImage(frame), frame)
assert in_video.replace is False
followed = client.predict_shapes(QImage(frame), frame, run_tracker=True)
assert followed.replace is False
assert client.video_session_id, messages
assert not [text for text in messages if "rror" in text or "ailed" in text], messages
shape = click.shapes[0]
print(
    json.dumps(
        {
            "label": shape.label,
            "points": [[point.x(), point.y()] for point in shape.points],
            "objects": len(all_shapes.shapes),
            "in_video": len(in_video.shapes),
            "batch": client.get_batch_processing_mode(),
        }
    )
)
