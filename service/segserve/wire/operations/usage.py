"""Usage of tenants, day by day."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from segserve.app import Service
from segserve.errors import BadInput, MissingRight, quote
from segserve.identity.identity import current_identity
from segserve.identity.rights import Right
from segserve.identity.tenant_name import check_tenant_name
from segserve.jobs.usage_store import KEEP_DAYS, STORED_BYTES
from segserve.types import UsageKind

WRITTEN_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
EPOCH = date(1970, 1, 1)
# Days, where the first one is not named.
DEFAULT_DAYS = 30
# Stands for all tenants; no tenant may have this name.
ALL_TENANTS = "*"
SECONDS = (UsageKind.ENCODE_SECONDS, UsageKind.JOB_SECONDS)


async def read_usage(
    service: Service, first: date | None, last: date | None, tenant: str | None
) -> dict[str, Any]:
    """Return what tenants used, as JSON.

    first, last: days in UTC; None: today, and so many days before that. tenant: None: that of the request.

    Raises BadInput, MissingRight for another tenant, NotAllowed, JobsUnavailable.
    """
    last = last or datetime.now(UTC).date()
    first = first or last - timedelta(days=DEFAULT_DAYS - 1)
    check_days(first, last)
    if tenant == ALL_TENANTS:
        require_operator()
        names = await service.jobs.usage.list_tenants()
    else:
        names = [choose_tenant(tenant)]
    days = (first - EPOCH).days, (last - EPOCH).days
    return {
        "first_day": first.isoformat(),
        "last_day": last.isoformat(),
        "tenants": [usage_to_json(name, await service.jobs.usage.read(name, *days)) for name in names],
    }


def parse_day(text: str, field: str) -> date | None:
    """Return the day that is written as 2026-11-28, None for an empty text. Raises BadInput."""
    if not text:
        return None
    try:
        if WRITTEN_DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise BadInput(f"{quote(text)} is no day.", field=field, remedy="A day is written as 2026-11-28.")


def check_days(first: date, last: date) -> None:
    """Raises BadInput."""
    if first > last:
        raise BadInput(
            "The first day is after the last.", field="from", remedy="Send from=2026-11-01&to=2026-11-30."
        )
    if (last - first).days >= KEEP_DAYS:
        raise BadInput(f"Those are more than {KEEP_DAYS} days.", field="from", remedy="Ask for fewer.")


def choose_tenant(tenant: str | None) -> str:
    """Return the tenant of the request, or another one for operators. Raises MissingRight, BadInput."""
    own = current_identity.get().tenant
    if tenant is None or tenant == own:
        return own
    require_operator()
    return check_tenant_name(tenant)


def require_operator() -> None:
    """Raises MissingRight."""
    if not current_identity.get().rights & Right.OPERATE:
        raise MissingRight(
            "Only operators may see what other tenants use.", field="tenant", remedy="Leave 'tenant' out."
        )


def usage_to_json(tenant: str, days: Mapping[int, Mapping[str, float]]) -> dict[str, Any]:
    totals = {
        kind.value: sum(amounts.get(kind.value, 0.0) for amounts in days.values()) for kind in UsageKind
    }
    return {
        "tenant": tenant,
        "total": amounts_to_json(totals),
        "days": [
            {
                "day": (EPOCH + timedelta(days=day)).isoformat(),
                **amounts_to_json(amounts),
                STORED_BYTES: int(amounts[STORED_BYTES]) if STORED_BYTES in amounts else None,
            }
            for day, amounts in sorted(days.items())
        ],
    }


def amounts_to_json(amounts: Mapping[str, float]) -> dict[str, float]:
    """Return the amounts of all kinds: seconds to the millisecond, all else as whole numbers."""
    return {
        kind.value: round(amounts.get(kind.value, 0.0), 3 if kind in SECONDS else None) for kind in UsageKind
    }
