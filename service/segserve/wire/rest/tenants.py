"""/v1/tenants: tenants, for operators."""

from typing import Annotated

from fastapi import FastAPI, Path
from fastapi.responses import Response

from segserve.app import Service
from segserve.wire.operations.tenants import delete_tenant, describe_tenant, describe_tenants
from segserve.wire.rest.responses import json_response, problem_responses
from segserve.wire.schemas.tenants import TenantOut, TenantsOut

TenantName = Annotated[str, Path(description="the name of a tenant", max_length=63, examples=["lab-a"])]


def add_routes(api: FastAPI, service: Service) -> None:
    @api.get(
        "/v1/tenants",
        summary="List the tenants",
        response_model=TenantsOut,
        responses=problem_responses(403, 503),
        tags=["operation"],
    )
    async def list_tenants() -> Response:
        """All tenants: those of the tenants file, and those that have stored or used anything. For operators."""
        return json_response({"tenants": await describe_tenants(service)})

    @api.get(
        "/v1/tenants/{tenant}",
        summary="Describe a tenant",
        response_model=TenantOut,
        responses=problem_responses(403, 422, 503),
        tags=["operation"],
    )
    async def get_tenant(tenant: TenantName) -> Response:
        """What a tenant may store, and stores. A tenant that nobody knows has stored nothing. For operators."""
        return json_response(await describe_tenant(service, tenant))

    @api.delete(
        "/v1/tenants/{tenant}",
        summary="Delete a tenant",
        name="delete_tenant",
        status_code=202,
        response_model=TenantOut,
        responses=problem_responses(403, 422, 503),
        tags=["operation"],
    )
    async def remove_tenant(tenant: TenantName) -> Response:
        """Delete all images, files, jobs, results, labels and usage of a tenant, in the background. Nothing more of it
        is stored meanwhile. Its keys stay: revoke them. For operators."""
        return json_response(await delete_tenant(service, tenant), 202)
