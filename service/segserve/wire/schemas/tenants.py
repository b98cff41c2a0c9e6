"""The JSON of /v1/tenants."""

from typing import Literal

from pydantic import BaseModel, Field


class TenantOut(BaseModel):
    """A tenant: what it may store, and what it stores."""

    tenant: str = Field(description="its name")
    state: Literal["active", "deleting"] = Field(
        description="deleting: all of it is being deleted, and nothing more of it is stored"
    )
    quota_bytes: int = Field(description="what it may store; 0 is no limit")
    max_images: int = Field(description="how many images it may store; 0 is no limit")
    max_jobs: int = Field(description="how many jobs may wait or run; 0 is no limit")
    retention_days: float = Field(description="images and files that are older are deleted; 0 keeps them")
    stored_bytes: int | None = Field(
        description="what it stored when that was last measured; null: it never was"
    )
    active_jobs: int | None = Field(description="jobs that wait or run; null where there are no jobs")


class TenantsOut(BaseModel):
    """All tenants that are named in the tenants file, or have stored or used anything."""

    tenants: list[TenantOut] = Field(description="by name")
