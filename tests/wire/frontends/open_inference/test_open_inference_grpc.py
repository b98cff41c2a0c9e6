"""The Open Inference Protocol over gRPC, against a real server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from PIL import Image

from segserve.inference import inference_pb2 as pb
from segserve.inference import inference_pb2_grpc
from tests.serving import Server


@pytest.fixture(scope="module")
def stub(target: str) -> Iterator[Any]:
    with grpc.insecure_channel(target) as channel:
        yield inference_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]


def point_request(nuclei: Path, **fields: Any) -> pb.ModelInferRequest:
    pixels = np.array(Image.open(nuclei).convert("RGB"))
    tensor = pb.ModelInferRequest.InferInputTensor
    return pb.ModelInferRequest(
        model_name="starter",
        inputs=[
            tensor(name="image", datatype="UINT8", shape=pixels.shape),
            tensor(name="point_coords", datatype="FP32", shape=[1, 1, 2]),
        ],
        raw_input_contents=[pixels.tobytes(), np.array([413, 190], "<f4").tobytes()],
        **fields,
    )


def test_server_and_models_are_described(stub: Any) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    assert stub.ServerMetadata(pb.ServerMetadataRequest()).name == "segserve"
    assert stub.ModelReady(pb.ModelReadyRequest(name="starter")).ready
    described = stub.ModelMetadata(pb.ModelMetadataRequest(name="starter", version="1"))
    assert {"point_coords", "boxes"} <= {tensor.name for tensor in described.inputs}
    index = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models
    assert {"starter", "starter-unet"} <= {model.name for model in index}


def test_a_models_configuration_is_that_of_rest(stub: Any, grpc_server: Server) -> None:
    for name in ("starter", "starter-unet"):
        config = stub.ModelConfig(pb.ModelConfigRequest(name=name)).config
        by_rest = grpc_server.client.get(f"/v2/models/{name}/config").json()
        written = MessageToDict(config, preserving_proto_field_name=True)
        for tensor in [*written["input"], *written["output"]]:
            tensor["dims"] = [int(edge) for edge in tensor["dims"]]  # JSON of protobuf has texts for 64 bits
        assert {"max_batch_size": 0, **written} == by_rest
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelConfig(pb.ModelConfigRequest(name="none"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]


def test_a_click_is_that_of_rest(stub: Any, grpc_server: Server, nuclei: Path) -> None:
    answer = stub.ModelInfer(point_request(nuclei, id="a"))
    assert answer.id == "a"
    outputs = {
        output.name: raw for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }
    by_rest = grpc_server.click(grpc_server.upload(nuclei), 413, 190).json()["results"][0]["masks"][0]
    assert np.frombuffer(outputs["masks"], np.bool_).sum() == by_rest["area"]
    assert np.frombuffer(outputs["iou_predictions"], "<f4")[0] == pytest.approx(by_rest["score"])


def test_values_may_come_in_fields(stub: Any, grpc_server: Server, nuclei: Path) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor
    image_id = grpc_server.upload(nuclei).encode()
    answer = stub.ModelInfer(
        pb.ModelInferRequest(
            model_name="starter",
            inputs=[
                tensor(
                    name="image_id",
                    datatype="BYTES",
                    shape=[1],
                    contents=pb.InferTensorContents(bytes_contents=[image_id]),
                ),
                tensor(
                    name="boxes",
                    datatype="FP32",
                    shape=[1, 4],
                    contents=pb.InferTensorContents(fp32_contents=[390, 170, 440, 215]),
                ),
            ],
            outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="image_id")],
        )
    )
    assert answer.raw_output_contents[0][4:] == image_id


def test_a_stream_goes_on_after_an_error(stub: Any, nuclei: Path) -> None:
    bad = pb.ModelInferRequest(model_name="none", id="bad")
    answers = list(stub.ModelStreamInfer(iter([bad, point_request(nuclei, id="good")])))
    assert "no model" in answers[0].error_message
    assert [answer.infer_response.id for answer in answers] == ["bad", "good"]
    assert not answers[1].error_message


def test_statistics_are_those_of_rest(stub: Any, grpc_server: Server, nuclei: Path) -> None:
    stub.ModelInfer(point_request(nuclei))
    [by_grpc] = stub.ModelStatistics(pb.ModelStatisticsRequest(name="starter")).model_stats
    by_rest = grpc_server.client.get("/v2/models/starter/stats").json()["model_stats"][0]
    assert by_grpc.inference_count == by_rest["inference_count"] > 0
    assert by_grpc.inference_stats.success.ns == by_rest["inference_stats"]["success"]["ns"] > 0


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (pb.ModelInferRequest(model_name="none"), grpc.StatusCode.NOT_FOUND),
        (pb.ModelInferRequest(model_name="starter"), grpc.StatusCode.INVALID_ARGUMENT),
        (
            pb.ModelInferRequest(model_name="starter", raw_input_contents=[b"x"]),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ],
    ids=["model", "image", "contents"],
)
def test_bad_requests_have_a_status(stub: Any, request_: pb.ModelInferRequest, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(request_)
    assert refused.value.code() is code  # type: ignore[attr-defined]
