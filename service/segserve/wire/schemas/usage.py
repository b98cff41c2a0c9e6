"""The JSON of GET /v1/usage."""

from pydantic import BaseModel, Field


class UsageAmounts(BaseModel):
    """Amounts of use."""

    encoded_images: int = Field(
        description="images, frames, slices, tiles and windows that were encoded; not those whose embedding was there"
    )
    encode_seconds: float = Field(
        description="time that encoders ran for them; images encoded together share it"
    )
    clicks: int = Field(description="prompts that were answered, those of jobs too")
    automatic_images: int = Field(description="whole images segmented by AIS or AMG")
    similar_images: int = Field(description="whole images searched for objects like examples")
    semantic_images: int = Field(description="whole images segmented by a semantic model")
    instances_images: int = Field(description="whole images segmented by an instance model")
    job_seconds: float = Field(description="time of workers on chunks of jobs that were published")


class UsageDayOut(UsageAmounts):
    """Use on a day."""

    day: str = Field(description="in UTC, such as 2026-11-28")
    stored_bytes: int | None = Field(description="what was stored when that was last measured on this day")


class TenantUsageOut(BaseModel):
    """Use by a tenant."""

    tenant: str = Field(description="the name of the tenant")
    total: UsageAmounts = Field(description="the sums of all days")
    days: list[UsageDayOut] = Field(description="the days on which anything was used or measured, in order")


class UsageOut(BaseModel):
    """Use by tenants from a day to a day."""

    first_day: str = Field(description="in UTC, such as 2026-11-01")
    last_day: str = Field(description="in UTC; it is among them")
    tenants: list[TenantUsageOut] = Field(description="by name")
