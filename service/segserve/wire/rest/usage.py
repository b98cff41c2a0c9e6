"""/v1/usage: what tenants have used."""

from datetime import date
from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.responses import Response
from pydantic import BeforeValidator

from segserve.app import Service
from segserve.wire.operations.usage import ALL_TENANTS, WRITTEN_DAY, read_usage
from segserve.wire.rest.responses import json_response, problem_responses
from segserve.wire.schemas.usage import UsageOut


def check_written(day: object) -> object:
    """Refuse what is no day: pydantic takes numbers for dates too, as seconds since 1970."""
    if isinstance(day, str) and not WRITTEN_DAY.fullmatch(day):
        raise ValueError("a day is written as 2026-11-28")
    return day


Day = Annotated[date, BeforeValidator(check_written)]


def add_routes(api: FastAPI, service: Service) -> None:
    @api.get(
        "/v1/usage",
        summary="Read what was used",
        name="read_usage",
        response_model=UsageOut,
        responses=problem_responses(403, 422, 503),
        tags=["operation"],
    )
    async def usage(
        first: Annotated[
            Day | None, Query(alias="from", description="first day in UTC; 30 days in all if left out")
        ] = None,
        last: Annotated[
            Day | None, Query(alias="to", description="last day in UTC; today if left out")
        ] = None,
        tenant: Annotated[
            str | None,
            Query(
                max_length=63,
                description=f"another tenant, or {ALL_TENANTS} for all: for operators; your own if left out",
            ),
        ] = None,
    ) -> Response:
        """What a tenant used, day by day: images encoded, clicks, whole images, time of jobs, and bytes stored. The
        newest counts are ten seconds late. Where there are no jobs, nothing is kept by day."""
        return json_response(await read_usage(service, first, last, tenant))
