"""Names of tenants are parts of paths and of Redis keys, and of patterns of these."""

import inspect

import pytest

from segserve.errors import BadInput
from segserve.identity.tenant_name import check_tenant_name, is_tenant_name
from segserve.store import redis_keys


@pytest.mark.parametrize("name", ["default", "a", "0", "lab-a", "lab_b", "a" * 63])
def test_a_name_is_taken_as_it_is(name: str) -> None:
    assert check_tenant_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        ".",
        "a/b",
        "a:b",
        "a*",
        "a?",
        "[a]",
        "a\\b",
        "Lab",
        "-a",
        "_a",
        "a b",
        "a\n",
        "é",
        "a" * 64,
        "{a}",
        "jobs",
        "usage",
    ],
)
def test_nothing_of_a_path_or_a_pattern_is_in_a_name(name: str) -> None:
    assert not is_tenant_name(name)
    with pytest.raises(BadInput) as refused:
        check_tenant_name(name, "tenant")
    assert refused.value.field == "tenant"
    assert "63" in refused.value.remedy


def test_no_key_of_all_tenants_together_matches_those_of_one() -> None:
    """The keys of a tenant that is deleted are found by patterns: no tenant may be called as what stands there."""
    functions = [each for _, each in inspect.getmembers(redis_keys, inspect.isfunction)]
    of_all = [each for each in functions if not inspect.signature(each).parameters]
    assert len(of_all) > 5
    for function in of_all:
        assert not is_tenant_name(function().removeprefix(f"{redis_keys.PREFIX}:").partition(":")[0]), (
            function
        )
