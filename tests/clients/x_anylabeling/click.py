"""Uses X-AnyLabeling's own client code without a screen. Arguments: the URL of the service, and a picture."""

import json
import sys

from PyQt6.QtGui import QImage
from PyQt6.QtWidgets import QApplication

from anylabeling.services.auto_labeling.remote_server import RemoteServer

url, picture = sys.argv[1:]
application = QApplication([])
messages: list[str] = []
settings = {"server_url": f"{url}/x-anylabeling", "api_key": ""}
config = {"type": "remote_server", "name": "r", "display_name": "r", "remote_server_settings": settings}
client = RemoteServer(config, messages.append)
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
shape = click.shapes[0]
print(
    json.dumps(
        {
            "label": shape.label,
            "points": [[point.x(), point.y()] for point in shape.points],
            "objects": len(all_shapes.shapes),
            "batch": client.get_batch_processing_mode(),
        }
    )
)
