"""Calls a service by tritonclient, over HTTP and gRPC. Arguments: host:port of each, and a picture as .npy."""

import sys
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

http_address, grpc_address, picture = sys.argv[1:]
pixels = np.load(picture)
point = np.array([[[413, 190]]], np.float32)


def make_inputs(library: Any) -> list[Any]:
    image = library.InferInput("image", list(pixels.shape), "UINT8")
    image.set_data_from_numpy(pixels)
    points = library.InferInput("point_coords", list(point.shape), "FP32")
    points.set_data_from_numpy(point)
    return [image, points]


areas = []
for library, address in ((tritonclient.http, http_address), (tritonclient.grpc, grpc_address)):
    client = library.InferenceServerClient(address)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("starter")
    assert client.get_server_metadata()
    assert client.get_model_metadata("starter", "1")
    assert client.get_model_repository_index()
    config = client.get_model_config("starter", **({} if library is tritonclient.http else {"as_json": True}))
    config = config.get("config", config)  # gRPC answers it in a message
    points_type = {tensor["name"]: tensor["data_type"] for tensor in config["input"]}["point_coords"]
    assert (config["name"], points_type) == ("starter", "TYPE_FP32"), config
    result = client.infer("starter", make_inputs(library), request_id="7")
    masks = result.as_numpy("masks")
    assert masks.dtype == bool
    assert masks.shape == (1, 1, *pixels.shape[:2])
    assert len(result.as_numpy("image_id")[0]) == 64
    areas.append(int(masks.sum()))
    wanted = [library.InferRequestedOutput("masks")]
    image_id = library.InferInput("image_id", [1], "BYTES")
    image_id.set_data_from_numpy(result.as_numpy("image_id").astype(np.object_))
    by_id = client.infer("starter", [image_id, make_inputs(library)[1]], outputs=wanted)
    np.testing.assert_array_equal(by_id.as_numpy("masks"), masks)
    classes = client.infer("starter-unet", make_inputs(library)[:1]).as_numpy("classes")
    assert classes.shape == pixels.shape[:2]
    assert client.get_inference_statistics("starter")
    message = ""
    try:
        client.infer("starter", [])
    except InferenceServerException as refusal:
        message = str(refusal)
    assert "0 images" in message, message

http_client = tritonclient.http.InferenceServerClient(http_address)
for how in ("gzip", "deflate"):
    packed = http_client.infer("starter", make_inputs(tritonclient.http), request_compression_algorithm=how)
    areas.append(int(packed.as_numpy("masks").sum()))
as_json = http_client.infer(
    "starter",
    make_inputs(tritonclient.http),
    outputs=[tritonclient.http.InferRequestedOutput("iou_predictions", binary_data=False)],
)
assert 0 < as_json.as_numpy("iou_predictions")[0, 0] < 2

answers: list[Any] = []
grpc_client = tritonclient.grpc.InferenceServerClient(grpc_address)
grpc_client.start_stream(lambda result, error: answers.append((result, error)))
grpc_client.async_stream_infer("starter", make_inputs(tritonclient.grpc))
grpc_client.async_stream_infer("none", make_inputs(tritonclient.grpc))
grpc_client.stop_stream()
assert [error is None for _, error in answers] == [True, False], answers
areas.append(int(answers[0][0].as_numpy("masks").sum()))
print(*areas)
