"""Calls over gRPC that are refused."""

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2


def read_refusal(call: Any, request: Any) -> tuple[grpc.StatusCode, dict[str, Any]]:
    """Make a call that is refused, and return its status code and the details by type."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30)
    packed = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    details: dict[str, Any] = {}
    for detail in status_pb2.Status.FromString(packed).details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            if detail.Is(kind.DESCRIPTOR):
                details[kind.__name__] = kind.FromString(detail.value)
    return caught.value.code(), details
