"""Policies: how much each tenant may store and for how long.

There are defaults for all, and a YAML file that is read again when it changes.
"""

import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import structlog
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segserve.errors import BadInput, describe_invalid, quote
from segserve.file_version import FileVersion, read_file_version
from segserve.identity.tenant_name import check_tenant_name
from segserve.types import DEFAULT_TENANT, MB

# The setting that names the file.
SETTING = "SEGSERVE_TENANTS_FILE"
# How old what was read may be. One look at the file's date a second costs nothing.
CHECK_INTERVAL_S = 1.0

Count = Annotated[int, Field(ge=0)]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class TenantPolicy:
    """`TenantPolicy` says what a tenant may store; 0 is no limit.

    max_bytes, max_images: stored at the same time. max_jobs: queued and running at the same time.
    retention_days: images and files that are older are deleted.
    """

    max_bytes: int = 0
    max_images: int = 0
    max_jobs: int = 0
    retention_days: float = 0

    @property
    def limits_storage(self) -> bool:
        return bool(self.max_bytes or self.max_images)

    @property
    def max_age(self) -> timedelta | None:
        """How long images and files are kept; None: for ever."""
        return timedelta(days=self.retention_days) if self.retention_days else None


class PolicyEntry(BaseModel):
    """One entry of the file. What it leaves out is the default for all."""

    model_config = ConfigDict(extra="forbid", strict=True)

    quota_mb: Count | None = None
    max_images: Count | None = None
    max_jobs: Count | None = None
    retention_days: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    def complete(self, base: TenantPolicy) -> TenantPolicy:
        """Return the policy of this entry; what the entry leaves out is as in `base`."""

        def choose(own: int | None, other: int) -> int:
            return other if own is None else own

        return TenantPolicy(
            base.max_bytes if self.quota_mb is None else self.quota_mb * MB,
            choose(self.max_images, base.max_images),
            choose(self.max_jobs, base.max_jobs),
            base.retention_days if self.retention_days is None else self.retention_days,
        )


class PolicyFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    defaults: PolicyEntry = PolicyEntry()
    tenants: dict[str, PolicyEntry | None] = {}


class TenantPolicies:
    """`TenantPolicies` returns the policy of each tenant.

    defaults: for tenants and values that the file leaves out.
    path: of the file; None: all tenants have the defaults.
    Raises BadInput for a file that cannot be read. One that is broken later is logged, and what was read before stays.
    """

    def __init__(self, defaults: TenantPolicy = TenantPolicy(), path: Path | None = None) -> None:
        self._settings_defaults, self._path = defaults, path
        self._defaults, self._by_tenant = defaults, dict[str, TenantPolicy]()
        self._version: FileVersion | None = None
        self._checked_at = 0.0
        if path is not None:
            self._version = read_file_version(path)
            self._read(path)

    def get(self, tenant: str) -> TenantPolicy:
        """Return the policy of a tenant, as the file says now."""
        self._read_if_changed()
        return self._by_tenant.get(tenant, self._defaults)

    def names(self) -> frozenset[str]:
        """Return the tenants that the file names, and the default one."""
        self._read_if_changed()
        return frozenset((DEFAULT_TENANT, *self._by_tenant))

    def _read_if_changed(self) -> None:
        if self._path is None or time.monotonic() - self._checked_at < CHECK_INTERVAL_S:
            return
        self._checked_at = time.monotonic()
        version = read_file_version(self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self._read(self._path)
            log.info("tenants file read", tenants=len(self._by_tenant))
        except BadInput as error:
            log.error("tenants file not read; what it said before stays", reason=str(error))

    def _read(self, path: Path) -> None:
        """Raises BadInput."""
        try:
            content = PolicyFile.model_validate(yaml.safe_load(path.read_bytes()) or {})
        except OSError as error:
            raise bad_file(f"It cannot be read: {error.strerror}", path) from None
        except yaml.YAMLError as error:
            line = getattr(getattr(error, "problem_mark", None), "line", None)
            raise bad_file(
                "It is no YAML" + ("" if line is None else f" from line {line + 1} on"), path
            ) from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise bad_file(f"{where or 'its content'}: {describe_invalid(first)}", path) from None
        for name in content.tenants:
            check_tenant_name(name, SETTING)
        self._defaults = content.defaults.complete(self._settings_defaults)
        self._by_tenant = {
            name: (entry or PolicyEntry()).complete(self._defaults) for name, entry in content.tenants.items()
        }


def bad_file(reason: str, path: Path) -> BadInput:
    return BadInput(
        f"The tenants file {quote(path.name)} of {SETTING} cannot be used. {reason}.",
        field=SETTING,
        remedy="docs/tenants.md shows one.",
    )
