"""UsageService: what tenants have used."""

from typing import Any, TypeAlias

from segserve.app import Service
from segserve.jobs.usage_store import STORED_BYTES
from segserve.types import UsageKind
from segserve.v1 import usage_pb2, usage_pb2_grpc
from segserve.wire.operations.usage import parse_day, read_usage

Context: TypeAlias = Any  # grpc.aio.ServicerContext; grpc has no types


class UsageService(usage_pb2_grpc.UsageServiceServicer):
    """Every method converts the request, calls what REST calls too, and converts the answer."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def ReadUsage(
        self, request: usage_pb2.ReadUsageRequest, context: Context
    ) -> usage_pb2.ReadUsageResponse:
        first, last = parse_day(request.first_day, "first_day"), parse_day(request.last_day, "last_day")
        usage = await read_usage(self._service, first, last, request.tenant or None)
        return usage_pb2.ReadUsageResponse(
            first_day=usage["first_day"],
            last_day=usage["last_day"],
            tenants=[tenant_to_message(tenant) for tenant in usage["tenants"]],
        )


def tenant_to_message(tenant: dict[str, Any]) -> usage_pb2.TenantUsage:
    """tenant: as the JSON of REST has it."""
    return usage_pb2.TenantUsage(
        tenant=tenant["tenant"],
        total=amounts_to_message(tenant["total"]),
        days=[
            usage_pb2.UsageDay(
                day=day["day"], amounts=amounts_to_message(day), stored_bytes=day[STORED_BYTES]
            )
            for day in tenant["days"]
        ],
    )


def amounts_to_message(amounts: dict[str, Any]) -> usage_pb2.UsageAmounts:
    return usage_pb2.UsageAmounts(**{kind.value: amounts[kind.value] for kind in UsageKind})
