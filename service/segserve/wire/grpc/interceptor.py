"""The interceptor around every gRPC call: request id, log line, metrics, and errors as statuses."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, TypeAlias

import grpc
import structlog

from segserve.app import EncodingService
from segserve.errors import SegserveError
from segserve.wire.grpc.errors import DETAILS_KEY, error_to_status, status_code
from segserve.wire.grpc.message_structure import parse_message

Context: TypeAlias = Any  # grpc.aio.ServicerContext; grpc has no types

log = structlog.get_logger(__name__)


class RequestLogger(grpc.aio.ServerInterceptor):
    """Binds a request id to the logs, counts and times the call, and turns errors into statuses."""

    def __init__(self, service: EncodingService) -> None:
        self._metrics = service.metrics

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Wrap the handler of a call: one message or a stream of them, answered by one message or by a stream.

        The wrapped handler takes messages as bytes, so that they are read here and not in gRPC's own code.
        """
        handler = await continuation(details)
        if handler is None or not details.method.startswith("/segserve."):
            return handler
        message_class = handler.request_deserializer.__self__  # of `FromString`
        if handler.unary_stream:

            async def observe_stream(data: bytes, context: Context) -> AsyncIterator[Any]:
                async with self._observe(context, details.method) as call:
                    call.request = await parse_message(data, message_class)
                    async for message in handler.unary_stream(call.request, context):
                        yield message

            return grpc.unary_stream_rpc_method_handler(observe_stream, None, handler.response_serializer)
        if handler.unary_unary:

            async def observe_call(data: bytes, context: Context) -> Any:
                async with self._observe(context, details.method) as call:
                    call.request = await parse_message(data, message_class)
                    return await handler.unary_unary(call.request, context)

            return grpc.unary_unary_rpc_method_handler(observe_call, None, handler.response_serializer)

        async def observe_upload(parts: AsyncIterator[bytes], context: Context) -> Any:
            async with self._observe(context, details.method):
                requests = (await parse_message(part, message_class) async for part in parts)
                return await handler.stream_unary(requests, context)

        return grpc.stream_unary_rpc_method_handler(observe_upload, None, handler.response_serializer)

    @asynccontextmanager
    async def _observe(self, context: Context, method: str) -> AsyncIterator[SimpleNamespace]:
        """Yields an object whose `request` the caller sets once the message is read."""
        structlog.contextvars.bind_contextvars(request_id=secrets.token_hex(8))
        start, status = time.perf_counter(), grpc.StatusCode.OK
        self._metrics.requests.in_flight.inc()
        call = SimpleNamespace(request=None)
        try:
            yield call
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
            model = getattr(call.request, "model", "") if status is grpc.StatusCode.OK else ""
            self._metrics.requests.record(method, "gRPC", model, status.name, seconds)
            log.info("request", method="gRPC", path=method, status=status.name, ms=round(1000 * seconds, 1))
            structlog.contextvars.unbind_contextvars("request_id")
