"""Usage of tenants, and links: addresses that are read without a key."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from segserve_client.prompts import Json
from segserve_client.requests import Answer, Call, Request


@dataclass(frozen=True)
class UsageAmounts:
    """Amounts of use.

    encoded_images: images, frames, slices and tiles that were encoded; encode_seconds: the time that took. clicks:
    prompts that were answered. automatic_images, similar_images, semantic_images, instances_images: whole images
    segmented. job_seconds: time of workers on jobs.
    """

    encoded_images: int
    encode_seconds: float
    clicks: int
    automatic_images: int
    similar_images: int
    semantic_images: int
    instances_images: int
    job_seconds: float


@dataclass(frozen=True)
class UsageDay:
    """Use on a day, in UTC. stored_bytes: what was stored when that was last measured; None: it was not on this day."""

    day: datetime.date
    amounts: UsageAmounts
    stored_bytes: int | None


@dataclass(frozen=True)
class TenantUsage:
    """Use by a tenant. total: the sums of all days. days: on which anything was used or measured, in order."""

    tenant: str
    total: UsageAmounts
    days: tuple[UsageDay, ...]


@dataclass(frozen=True)
class Usage:
    """Use by tenants from a day to a day, in UTC; the last one is among them. tenants: by name."""

    first_day: datetime.date
    last_day: datetime.date
    tenants: tuple[TenantUsage, ...]


@dataclass(frozen=True)
class Link:
    """An address that is read without a key for a while.

    url: whole, with the link in it. expires_at: when it ends. Whoever has the address can read it.
    """

    url: str
    expires_at: datetime.datetime


def read_usage(first: datetime.date | None, last: datetime.date | None, tenant: str | None) -> Call[Usage]:
    asked = {"from": first, "to": last, "tenant": tenant}
    query = {name: str(value) for name, value in asked.items() if value is not None}
    return Call(Request("GET", "/v1/usage", query), lambda answer: parse_usage(answer.json()))


def create_link(address: str, path: str, seconds: int) -> Call[Link]:
    """address: of the service. path: from its root, perhaps with a query."""
    linked, _, query = path.partition("?")

    def parse(answer: Answer) -> Link:
        content = answer.json()
        link = content["link"]  # None where the service asks for no keys
        granted = "" if link is None else f"link={quote(link, safe='')}"
        parts = [part for part in (query, granted) if part]
        url = f"{address.rstrip('/')}{linked}{'?' if parts else ''}{'&'.join(parts)}"
        return Link(url, datetime.datetime.fromtimestamp(content["expires_at"], datetime.timezone.utc))

    body = {"path": unquote(linked), "expires_s": seconds}
    return Call(Request("POST", "/v1/links", body=body), parse)


def parse_usage(content: Json) -> Usage:
    return Usage(
        datetime.date.fromisoformat(content["first_day"]),
        datetime.date.fromisoformat(content["last_day"]),
        tuple(parse_tenant(tenant) for tenant in content["tenants"]),
    )


def parse_tenant(content: Json) -> TenantUsage:
    days = tuple(
        UsageDay(datetime.date.fromisoformat(day["day"]), parse_amounts(day), day["stored_bytes"])
        for day in content["days"]
    )
    return TenantUsage(content["tenant"], parse_amounts(content["total"]), days)


def parse_amounts(content: Mapping[str, float]) -> UsageAmounts:
    return UsageAmounts(
        int(content["encoded_images"]),
        float(content["encode_seconds"]),
        int(content["clicks"]),
        int(content["automatic_images"]),
        int(content["similar_images"]),
        int(content["semantic_images"]),
        int(content["instances_images"]),
        float(content["job_seconds"]),
    )
