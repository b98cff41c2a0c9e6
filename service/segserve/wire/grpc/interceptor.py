"""The interceptor around every gRPC call: request id, log line, metrics, and errors as statuses."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
import structlog

from segserve.app import EncodingService
from segserve.errors import SegserveError
from segserve.wire.grpc.errors import DETAILS_KEY, error_to_status, status_code

Context: TypeAlias = Any  # grpc.aio.ServicerContext; grpc has no types

log = structlog.get_logger(__name__)


class RequestLogger(grpc.aio.ServerInterceptor):
    """Binds a request id to the logs, counts and times the call, and turns errors into statuses."""

    def __init__(self, service: EncodingService) -> None:
        self._metrics = service.metrics

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Wrap the handler of a call, one that answers once or one that answers a stream."""
        handler = await continuation(details)
        if handler is None or not details.method.startswith("/segserve."):
            return handler
        if handler.unary_stream:

            async def observe_stream(request: Any, context: Context) -> AsyncIterator[Any]:
                async with self._observe(request, context, details.method):
                    async for message in handler.unary_stream(request, context):
                        yield message

            return grpc.unary_stream_rpc_method_handler(
                observe_stream, handler.request_deserializer, handler.response_serializer
            )
        method = handler.unary_unary or handler.stream_unary

        async def observe_call(request: Any, context: Context) -> Any:
            async with self._observe(request, context, details.method):
                return await method(request, context)

        wrap = (
            grpc.unary_unary_rpc_method_handler
            if handler.unary_unary
            else grpc.stream_unary_rpc_method_handler
        )
        return wrap(observe_call, handler.request_deserializer, handler.response_serializer)

    @asynccontextmanager
    async def _observe(self, request: Any, context: Context, method: str) -> AsyncIterator[None]:
        structlog.contextvars.bind_contextvars(request_id=secrets.token_hex(8))
        start, status = time.perf_counter(), grpc.StatusCode.OK
        self._metrics.requests.in_flight.inc()
        try:
            yield
        except SegserveError as error:
            status = status_code(error)
            log.info("refused", code=error.code, field=error.field, reason=error.message)
            details = ((DETAILS_KEY, error_to_status(error).SerializeToString()),)
            await context.abort(status, str(error), details)
        except asyncio.CancelledError:  # the client went away, or its deadline passed
            status = grpc.StatusCode.CANCELLED
            raise
        except Exception:
            status = grpc.StatusCode.INTERNAL
            log.exception("internal error")
            await context.abort(status, "Something went wrong here.")
        finally:
            self._metrics.requests.in_flight.dec()
            seconds = time.perf_counter() - start
            model = getattr(request, "model", "") if status is grpc.StatusCode.OK else ""
            self._metrics.requests.record(method, "gRPC", model, status.name, seconds)
            log.info("request", method="gRPC", path=method, status=status.name, ms=round(1000 * seconds, 1))
            structlog.contextvars.unbind_contextvars("request_id")
