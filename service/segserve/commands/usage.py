"""`segserve usage`: what tenants have used, as a table."""

from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console

from segserve.commands.server_client import ApiKeyFile, connect_to_server
from segserve.models.model_tables import print_table
from segserve.types import MB
from segserve_client import UsageAmounts

DEFAULT_SERVER = "http://127.0.0.1:8000"
HEADER = [
    "tenant",
    "day",
    "encoded",
    "encode s",
    "clicks",
    "automatic",
    "similar",
    "semantic",
    "instances",
    "job s",
    "stored MB",
]
TOTAL = "all"


def usage(
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="First day, in UTC [default: 30 days in all]."),
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, in UTC [default: today].")
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option(help="Another tenant, or '*' for all: for operators [default: that of the key]."),
    ] = None,
    days: Annotated[bool, typer.Option("--days", help="Show each day, not only the sums.")] = False,
    server: Annotated[str, typer.Option(help="Address of a running segserve.")] = DEFAULT_SERVER,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Show what a tenant has used.

    Images encoded, clicks, whole images, time of jobs, and bytes stored, as a running service says.
    """
    with connect_to_server(server, None, api_key_file) as client:
        used = client.usage(
            first=None if first is None else first.date(),
            last=None if last is None else last.date(),
            tenant=tenant,
        )
    rows = []
    for each in used.tenants:
        for day in each.days if days else ():
            rows.append([each.tenant, str(day.day), *write_amounts(day.amounts), write_mb(day.stored_bytes)])
        stored = next((day.stored_bytes for day in reversed(each.days) if day.stored_bytes is not None), None)
        rows.append([each.tenant, TOTAL, *write_amounts(each.total), write_mb(stored)])
    print_table(Console(), f"Usage from {used.first_day} to {used.last_day}", HEADER, rows)


def write_amounts(amounts: UsageAmounts) -> list[str]:
    """Return the cells of the amounts, in the order of `HEADER`."""
    return [
        str(amounts.encoded_images),
        f"{amounts.encode_seconds:.1f}",
        str(amounts.clicks),
        str(amounts.automatic_images),
        str(amounts.similar_images),
        str(amounts.semantic_images),
        str(amounts.instances_images),
        f"{amounts.job_seconds:.1f}",
    ]


def write_mb(size: int | None) -> str:
    return "-" if size is None else f"{size / MB:.1f}"
