"""Which instructions for bf16 a graph may count on."""

import pytest

from segserve.models.runtime import cpu_features
from segserve.models.runtime.cpu_features import find_bf16_instructions


@pytest.mark.parametrize(
    ("isa", "flags", "found"),
    [
        (None, {"avx2", "avx512_bf16", "amx_bf16"}, "amx_bf16"),
        ("ALL", {"avx2", "avx512_bf16"}, "avx512_bf16"),
        (None, {"avx2"}, None),
        ("avx2", {"avx2", "avx512_bf16", "amx_bf16"}, None),
        ("AVX512_CORE", {"avx2", "avx512_bf16", "amx_bf16"}, None),
        ("AVX512_CORE_BF16", {"avx2", "avx512_bf16", "amx_bf16"}, "avx512_bf16"),
        ("AVX10_1_512_AMX", {"avx2", "avx512_bf16", "amx_bf16"}, "amx_bf16"),
    ],
)
def test_instructions_that_onednn_leaves_unused_do_not_count(
    isa: str | None, flags: set[str], found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_features, "read_cpu_flags", lambda: frozenset(flags))
    if isa is None:
        monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    else:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
    assert find_bf16_instructions() == found
