"""The tenants file: defaults, entries, changes while the service runs, and what it may not say."""

from datetime import timedelta
from pathlib import Path

import pytest

from segserve.errors import BadInput
from segserve.identity import tenant_policies
from segserve.identity.tenant_policies import TenantPolicies, TenantPolicy
from segserve.types import MB

FILE = """
defaults: {quota_mb: 10, max_jobs: 2}
tenants:
  lab-a: {quota_mb: 20, max_images: 3, retention_days: 0.5}
  lab-b:
"""


@pytest.fixture(autouse=True)
def _checked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenant_policies, "CHECK_INTERVAL_S", 0.0)


def test_what_an_entry_leaves_out_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_text(FILE)
    policies = TenantPolicies(TenantPolicy(5 * MB, retention_days=7), path)
    assert policies.get("lab-a") == TenantPolicy(20 * MB, 3, 2, 0.5)
    assert policies.get("lab-a").max_age == timedelta(hours=12)
    assert policies.get("lab-b") == policies.get("unnamed") == TenantPolicy(10 * MB, 0, 2, 7)
    assert policies.names() == {"default", "lab-a", "lab-b"}


def test_without_a_file_all_have_the_settings() -> None:
    policies = TenantPolicies(TenantPolicy(5 * MB))
    assert policies.get("any") == TenantPolicy(5 * MB)
    assert policies.get("any").max_age is None
    assert policies.names() == {"default"}


def test_a_changed_file_is_read_again_and_a_broken_one_is_not(tmp_path: Path) -> None:
    """Kubernetes replaces a link to the file, so its inode changes too."""
    path = tmp_path / "tenants.yaml"
    path.write_text(FILE)
    policies = TenantPolicies(path=path)
    (tmp_path / "new.yaml").write_text("tenants: {lab-a: {quota_mb: 1}}")
    (tmp_path / "new.yaml").replace(path)
    assert policies.get("lab-a") == TenantPolicy(MB)
    path.write_text("tenants: {lab-a: {quota_mb: ")
    assert policies.get("lab-a") == TenantPolicy(MB)
    path.unlink()
    assert policies.get("lab-a") == TenantPolicy(MB)
    path.write_text("tenants: {lab-a: {quota_mb: 2}}")
    assert policies.get("lab-a") == TenantPolicy(2 * MB)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tenants: {Lab: {}}", "no name of a tenant"),
        ("tenants: {a: {quota: 1}}", "tenants.a.quota"),
        ("tenants: {a: {quota_mb: -1}}", "tenants.a.quota_mb"),
        ("tenants: {a: {retention_days: .inf}}", "tenants.a.retention_days"),
        ("tenants: [a]", "tenants"),
        ("tenants: {a: {quota_mb: 1", "line 1"),
        ("[1, 2]", "its content"),
    ],
)
def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=reason) as refused:
        TenantPolicies(path=path)
    assert refused.value.field in ("SEGSERVE_TENANTS_FILE",)
    assert str(tmp_path) not in str(refused.value)


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"file \S+ of SEGSERVE_TENANTS_FILE cannot be used.*No such file"):
        TenantPolicies(path=tmp_path / "none.yaml")
