"""The interceptor around every gRPC call: rates, slots, pace, request id, log line, metrics, and errors as statuses."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import Any, TypeAlias

import grpc
import structlog

from segserve.app import EncodingService
from segserve.current_client import Client, current_client
from segserve.errors import BadInput, SegserveError, StorageFull, TooSlow
from segserve.identity.identity import ANONYMOUS, Identity, current_identity
from segserve.request_limits import RequestKind
from segserve.types import MB
from segserve.wire.audited_routes import (
    AUTHENTICATE,
    UNAUTHENTICATED,
    describe_sender,
    find_call_action,
    pick_ids,
)
from segserve.wire.body_pace import BodyPace
from segserve.wire.client_address import find_client
from segserve.wire.grpc.connections import ConnectionWatch, client_of_call, peer_of_call
from segserve.wire.grpc.errors import DETAILS_KEY, error_to_status, status_code
from segserve.wire.grpc.large_answers import pass_bytes
from segserve.wire.grpc.message_reads import MessageReads
from segserve.wire.grpc.message_structure import parse_message
from segserve.wire.http.authentication import AUTHORIZATION, KEY_HEADERS, check_right, read_credential
from segserve.wire.route_rights import METHOD_RIGHTS, OPEN

Context: TypeAlias = Any  # grpc.aio.ServicerContext; grpc has no types

log = structlog.get_logger(__name__)


METHOD_KINDS = {
    "/segserve.v1.SegmentationService/Segment": RequestKind.CLICK,
    "/segserve.v1.SegmentationService/UploadImage": RequestKind.UPLOAD,
    "/segserve.v1.FileService/UploadFile": RequestKind.UPLOAD,
    "/segserve.v1.FileService/ReadLabels": RequestKind.UPLOAD,
    "/segserve.v1.JobService/WatchJob": RequestKind.WATCH,
    "/segserve.v1.JobService/ReadResults": RequestKind.WATCH,
    "/inference.GRPCInferenceService/ModelStreamInfer": RequestKind.WATCH,
    "/grpc.health.v1.Health/Watch": RequestKind.WATCH,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": RequestKind.WATCH,
}
# Our own services, and those of frontends; not gRPC's, such as health checks.
LOGGED = ("/segserve.", "/inference.")
# A message of gRPC is seen once it is complete. A large one may take so much longer, a client's and ours.
MIN_MESSAGE_MB_PER_S = 2
MIN_ANSWER_BYTES_PER_S = 256 << 10


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Gives every call a slot of its kind, limits the pace of its messages both ways, and turns errors into statuses.
    Calls of our own services are logged, counted and timed.

    gRPC has clocks for connections and none for calls: a client may open a call and send nothing, or read nothing of
    the answer, for as long as it likes.
    """

    watch: ConnectionWatch | None = None  # once the server listens

    def __init__(self, service: EncodingService) -> None:
        self._metrics, self._limits = service.metrics, service.request_limits
        self._audit = service.audit
        self._authenticators, self._rates = service.authenticators, service.request_rates
        settings = service.settings
        self._proxies, self._timeout_s = settings.trusted_proxies, settings.body_timeout_s
        self._message_timeout_s = settings.body_timeout_s + settings.max_request_mb / MIN_MESSAGE_MB_PER_S
        self._reads = MessageReads(settings, self._message_timeout_s)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Wrap the handler of a call: one message or a stream of them, answered by one message or by a stream.

        The wrapped handler takes a stream of messages and answers by a stream, whichever the method is: to a client
        they are the same, and so the call is ours before its first message has come, and until its last is sent. It
        takes messages as bytes, so that they are read here and not in gRPC's own code.
        """
        handler = await continuation(details)
        if handler is None:
            return None
        message_class = handler.request_deserializer.__self__  # of `FromString`
        kind = METHOD_KINDS.get(details.method, RequestKind.OTHER)
        is_logged = details.method.startswith(LOGGED)

        async def handle(parts: AsyncIterator[bytes], context: Context) -> None:
            try:
                await answer_call(parts, context)
            except grpc.aio.AbortError as aborted:
                # gRPC keeps this exception in the call. What its traceback refers to would keep the call and all that
                # was received for it, in a reference cycle, until the garbage collector comes by.
                aborted.__context__ = None
                del parts, context
                raise aborted.with_traceback(None) from None

        async def answer_call(parts: AsyncIterator[bytes], context: Context) -> None:
            if is_logged:
                self._limits.note_request()
            async with self._observe(context, details.method, is_logged=is_logged) as call:
                forwarded_for = read_metadata(context, "x-forwarded-for")
                address = client_of_call(context.peer(), forwarded_for, self._proxies)
                if self._authenticators is not None:
                    current_identity.set(await self._find_identity(context, details.method, address))
                identity = current_identity.get()
                check_right(identity, METHOD_RIGHTS[details.method])
                client = find_client(identity, address)
                current_client.set(client)
                if (
                    is_logged
                    and (refusal := (await self._rates.check(kind, identity, address))[0]) is not None
                ):
                    raise refusal
                async with AsyncExitStack() as held:
                    if self.watch is not None:
                        held.enter_context(self.watch.call(peer_of_call(context.peer())))
                    held.enter_context(self._limits[kind].slot(client=client))
                    # Closed at once: gRPC's iterator keeps its last message in a reference cycle.
                    received: Any = await held.enter_async_context(aclosing(aiter(parts)))
                    requests = await held.enter_async_context(
                        aclosing(self._read(received, message_class, kind, client))
                    )
                    if handler.request_streaming:
                        answer = (handler.stream_stream or handler.stream_unary)(requests, context)
                    else:
                        call.request = await anext(requests, None)
                        if call.request is None:
                            raise BadInput("The call has no message.", remedy="Send one.")
                        answer = (handler.unary_stream or handler.unary_unary)(call.request, context)
                    await self._write(answer, context, call)

        return grpc.stream_stream_rpc_method_handler(handle, None, pass_bytes(handler.response_serializer))

    async def _find_identity(self, context: Context, method: str, address: str) -> Identity:
        """Return who makes a call, by its metadata. Raises Unauthenticated, RateLimited, Unavailable."""
        assert self._authenticators is not None
        if METHOD_RIGHTS[method] == OPEN:
            return ANONYMOUS
        headers = {
            name: value
            for name in (AUTHORIZATION, *KEY_HEADERS)
            if (value := read_metadata(context, name.decode())) is not None
        }
        return await self._authenticators.authenticate(read_credential(headers), address)

    async def _read(
        self, parts: AsyncIterator[bytes], message_class: Any, kind: RequestKind, client: Client
    ) -> AsyncGenerator[Any]:
        """Read the messages of a call. Until the next one is asked for, or the call ends, a large one counts as memory
        as JSON of REST does, and one of an upload keeps its place.

        Raises TooSlow, Busy, and what `parse_message` raises.
        """
        pace = BodyPace(self._message_timeout_s, self._message_timeout_s)
        try:
            while True:
                async with AsyncExitStack() as held:
                    await held.enter_async_context(self._reads.place(kind))
                    part = await pace.wait_for(anext(parts))
                    pace.count(len(part))
                    size_mb = len(part) // MB
                    if size_mb and kind is not RequestKind.UPLOAD:
                        self._limits.body_memory_mb.acquire(size_mb, client)
                        await held.aclose()
                        held.callback(self._limits.body_memory_mb.release, size_mb, client)
                    elif not size_mb:
                        await held.aclose()
                    message = await parse_message(part, message_class)
                    del part
                    yield message
                    del message
        except StopAsyncIteration:
            return
        except TooSlow:
            self._metrics.requests.count_rejection("body_timeout")
            raise

    async def _write(self, answer: Any, context: Context, call: SimpleNamespace) -> None:
        """Send the answer of a handler: its messages, one by one, or the only one.

        A handler that writes to the context itself has no answer.
        """
        if not hasattr(answer, "__aiter__"):
            message = call.answer = await answer
            if message is not None:
                await self._write_message(message, context)
            return
        async for message in answer:
            await self._write_message(message, context)

    async def _write_message(self, message: Any, context: Context) -> None:
        """Send a message. It waits until the client has read what came before, and most of this.

        Ends the connection of a client that does not read: gRPC would keep the message until it does.
        """
        try:
            size_bytes = len(message) if isinstance(message, bytes) else message.ByteSize()
            async with asyncio.timeout(self._timeout_s + size_bytes / MIN_ANSWER_BYTES_PER_S):
                await context.write(message)
        except TimeoutError:
            self._metrics.requests.count_rejection("slow_reader")
            if (peer := peer_of_call(context.peer())) is not None and self.watch is not None:
                await asyncio.to_thread(self.watch.end, peer)
            raise asyncio.CancelledError from None

    @asynccontextmanager
    async def _observe(
        self, context: Context, method: str, *, is_logged: bool
    ) -> AsyncIterator[SimpleNamespace]:
        """Yields an object whose `request` the caller sets once the message is read, and `answer` if it is one."""
        request_id = secrets.token_hex(8)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        start, status, problem = time.perf_counter(), grpc.StatusCode.OK, ""
        self._metrics.requests.in_flight.inc()
        call = SimpleNamespace(request=None, answer=None)
        try:
            yield call
        except SegserveError as error:
            status, problem = status_code(error), error.code
            tell = log.warning if isinstance(error, StorageFull) else log.info
            tell("refused", code=error.code, field=error.field, reason=error.message)
            details = ((DETAILS_KEY, error_to_status(error).SerializeToString()),)
            await context.abort(status, str(error), details)
        except asyncio.CancelledError:  # the client went away, or its deadline passed
            status = grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:  # one of gRPC's own services has sent its status
            status = grpc.StatusCode.UNKNOWN
            raise
        except NotImplementedError:  # raised by generated code for what gRPC's own services leave out
            status = grpc.StatusCode.UNIMPLEMENTED
            await context.abort(status, "The method is not implemented.")
        except Exception:
            status = grpc.StatusCode.INTERNAL
            log.exception("internal error")
            await context.abort(status, "Something went wrong here.")
        finally:
            self._metrics.requests.in_flight.dec()
            if is_logged:
                self._record(method, call.request, status, problem, time.perf_counter() - start)
                if self._audit.is_on:
                    self._write_audit(context, method, call, status, problem, request_id)
            structlog.contextvars.unbind_contextvars("request_id")

    def _record(
        self, method: str, request: Any, status: grpc.StatusCode, problem: str, seconds: float
    ) -> None:
        model = getattr(request, "model", "") if status is grpc.StatusCode.OK else ""
        self._metrics.requests.record(method, "gRPC", model, status.name, seconds, problem=problem)
        log.info("request", method="gRPC", path=method, status=status.name, ms=round(1000 * seconds, 1))

    def _write_audit(
        self,
        context: Context,
        method: str,
        call: SimpleNamespace,
        status: grpc.StatusCode,
        problem: str,
        request_id: str,
    ) -> None:
        action = AUTHENTICATE if status.name in UNAUTHENTICATED else find_call_action(method)
        if action is None:
            return
        address = client_of_call(context.peer(), read_metadata(context, "x-forwarded-for"), self._proxies)
        self._audit.write(
            action,
            **describe_sender(current_identity.get(), address, status.name),
            method="gRPC",
            route=method,
            ids=pick_ids(call.request) | pick_ids(call.answer),
            status=status.name,
            problem=problem or None,
            request_id=request_id,
        )


def read_metadata(context: Context, key: str) -> str | None:
    """All values of a key of the call's metadata, with commas between them. None if there is none."""
    values = [str(value) for name, value in context.invocation_metadata() or () if name == key]
    return ", ".join(values) or None
