"""PyTorch's files are read without torch: the same tensors, and nothing else that a pickle could ask for."""

import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segserve.models.importers import torch_file
from segserve.models.importers.torch_file import (
    DamagedFile,
    Module,
    UnsafePickle,
    list_module_tensors,
    read_torch_file,
)

DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
both_formats = pytest.mark.parametrize("is_zip", [True, False])


def save(content: Any, path: Path, is_zip: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    return path


def assert_same(actual: Any, expected: Any) -> None:
    if isinstance(expected, torch.Tensor):
        if expected.dtype == torch.bfloat16:
            expected = expected.float()
        assert np.array_equal(actual, expected.detach().numpy())
        assert actual.dtype == expected.detach().numpy().dtype
    elif isinstance(expected, dict):
        assert list(actual) == list(expected)
        for key, value in expected.items():
            assert_same(actual[key], value)
    elif isinstance(expected, (list, tuple)):
        assert type(actual) is (tuple if isinstance(expected, torch.Size) else type(expected))
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)
    else:
        assert actual == expected


@both_formats
def test_all_tensors_are_those_that_torch_reads(tmp_path: Path, is_zip: bool) -> None:
    base = torch.arange(60, dtype=torch.float32)
    content = {
        **{name: (torch.rand(3, 4) * 100).to(getattr(torch, name)) for name in DTYPES},
        "a view": base.reshape(6, 10)[1:4, ::3],
        "transposed": base.reshape(6, 10).T,
        "the same storage": base,
        "a scalar": torch.tensor(3.5),
        "nothing": torch.zeros(0, 4),
        "a parameter": torch.nn.Parameter(torch.ones(2)),
        "state": OrderedDict(weight=torch.ones(2)),
        "optimizer": {
            "step": 3,
            "betas": (0.9, 0.999),
            "names": ["a", None, True],
            "shape": torch.Size([2, 3]),
        },
    }
    assert_same(read_torch_file(save(content, tmp_path / "c.pt", is_zip)), content)


@both_formats
def test_a_networks_state_dict_is_read(tmp_path: Path, is_zip: bool) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    assert_same(read_torch_file(save(network.state_dict(), tmp_path / "c.pt", is_zip)), network.state_dict())


class Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


UNSAFE = {
    "a command": Call(os.system, "touch ran"),
    "an import": Call(__import__, "os"),
    "getattr": Call(getattr, "text", "upper"),
    "a file": Call(open, "ran", "w"),
    "a module": torch.nn.Linear(2, 2),
    "a set": {1, 2},
}


@both_formats
@pytest.mark.parametrize("name", UNSAFE)
def test_what_is_no_tensor_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_zip: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    path = save({"weight": torch.ones(2), "extra": UNSAFE[name]}, tmp_path / "c.pt", is_zip)
    with pytest.raises(UnsafePickle):
        read_torch_file(path)
    assert not (tmp_path / "ran").exists()


def write_archive(path: Path, program: bytes, storage: bytes = bytes(16)) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("c/data.pkl", program)
        archive.writestr("c/data/0", storage)
    return path


def tensor_program(offset: int, shape: tuple[int, ...], strides: tuple[int, ...], count: int = 4) -> bytes:
    """Write the pickle of one tensor over storage 0 as torch.save does."""

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if isinstance(value, Storage) else None

    packed = io.BytesIO()
    Pickler(packed, 2).dump(
        Call(torch._utils._rebuild_tensor_v2, Storage(), offset, shape, strides, False, OrderedDict())
    )
    return packed.getvalue()


def test_a_tensor_must_lie_within_its_storage_and_that_within_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    assert read_torch_file(write_archive(path, tensor_program(0, (2, 2), (2, 1)))).shape == (2, 2)
    for offset, shape, strides, count in (
        (1, (2, 2), (2, 1), 4),
        (0, (2, 2), (3, 1), 4),
        (-1, (2, 2), (2, 1), 4),
        (0, (2, 2), (-2, 1), 4),
        (0, (1 << 40,), (0,), 4),
        (0, (1 << 40, 1 << 40), (0, 0), 4),
        (0, (2,) * 40, (0,) * 40, 4),
        (0, (2, 2), (1,), 4),
        (0, (2, 2), (2, 1), 1 << 50),
        (0, (2, 2), (2, 1), -4),
    ):
        with pytest.raises(DamagedFile):
            read_torch_file(write_archive(path, tensor_program(offset, shape, strides, count)))


def test_an_entry_that_unpacks_to_much_is_refused_unread(tmp_path: Path) -> None:
    path = save({"a": torch.ones(2)}, tmp_path / "x.pt")
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    [byte_order] = [name for name in entries if name.endswith("byteorder")]
    entries[byte_order] = bytes(1 << 20)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            packing = zipfile.ZIP_DEFLATED if name == byte_order else zipfile.ZIP_STORED
            archive.writestr(name, content, packing)
    with pytest.raises(DamagedFile, match="too large"):
        read_torch_file(path)


def tensors_program(count: int, storage_type: Any) -> bytes:
    """Write the pickle of many tensors over all four elements of storage 0."""

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", storage_type, "0", "cpu", 4) if isinstance(value, Storage) else None

    packed, rebuild = io.BytesIO(), torch._utils._rebuild_tensor_v2
    tensors = [Call(rebuild, Storage(), 0, (4,), (1,), False, OrderedDict()) for _ in range(count)]
    Pickler(packed, 2).dump(tensors)
    return packed.getvalue()


@pytest.mark.parametrize("storage_type", [torch.FloatStorage, torch.BFloat16Storage])
def test_tensors_that_share_a_storage_are_bounded_by_the_files_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage_type: Any
) -> None:
    assert len(read_torch_file(write_archive(tmp_path / "c.pt", tensors_program(3, storage_type)))) == 3
    monkeypatch.setattr(torch_file, "MAX_SHARING", 0.01)
    with pytest.raises(DamagedFile, match="claims more"):
        read_torch_file(write_archive(tmp_path / "c.pt", tensors_program(30, storage_type)))


NESTED = b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(80))
BOMBS = {
    "a bytearray of a terabyte": b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".",
    "a shape of a thousand sizes": b"\x80\x02ctorch\nSize\n](" + b"K\x01" * 1000 + b"e\x85R.",
    "keys of one hash": b"\x80\x02}("
    + b"".join(b"\x8a\x0a" + (n * ((1 << 61) - 1)).to_bytes(10, "little") + b"N" for n in range(1, 2000))
    + b"u.",
    "a tuple as a key": b"\x80\x02}K\x01K\x02\x86Ns.",
    "a tuple as a key of a dict at once": b"\x80\x02(K\x01K\x02\x86Nd.",
    "a call of lists in one another, whose text is endless": b"\x80\x02" + NESTED + b")R.",
    "items of a list": b"\x80\x02]K\x00K\x01s.",
    "a set": b"\x80\x04\x8f(K\x01\x90.",
    "pairs copied again and again": b"\x80\x02](](X\x01\x00\x00\x00aNe](X\x01\x00\x00\x00bNeeq\x000"
    + b"ccollections\nOrderedDict\nh\x00\x85R" * 50
    + b".",
}


@pytest.mark.parametrize("name", BOMBS)
def test_programs_that_would_take_memory_or_hours_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(torch_file, "MAX_COPIED_ITEMS", 50)
    with pytest.raises((UnsafePickle, DamagedFile)):
        read_torch_file(write_archive(tmp_path / "c.pt", BOMBS[name]))


def test_a_pickle_is_packed_as_torch_packs_it(tmp_path: Path) -> None:
    """zipfile would unpack LZMA's bytes at once, whatever they unpack to."""
    path = tmp_path / "c.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("c/data.pkl", b"\x80\x02}.")
    with pytest.raises(DamagedFile, match="packed"):
        read_torch_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("c/data.pkl", tensor_program(0, (4,), (1,)))
        archive.writestr("c/data/0", bytes(16))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("c/data/0", bytes(range(16)))
    with pytest.raises(DamagedFile, match="two entries"):
        read_torch_file(path)


def test_programs_that_torch_does_not_write_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    for program in (
        b"cos\nsystem\n(S'touch ran'\ntR.",
        b"(S'touch ran'\nios\nsystem\n.",
        b"\x80\x02]" + b"r\xff\xff\xff\x7f" + b".",  # a memo of 2 G entries
        b"\x80\x02" + b"]" * 200_000,
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"",
        b"\x80\x02}q\x00h\x00h\x00s.",  # a dict that is its own key
    ):
        try:
            read_torch_file(write_archive(path, program))
        except (UnsafePickle, DamagedFile):
            continue


@both_formats
def test_damaged_files_are_refused_or_read_and_nothing_else(tmp_path: Path, is_zip: bool) -> None:
    path = save({"a": torch.rand(20, 20), "b": {"c": torch.ones(7)}}, tmp_path / "c.pt", is_zip)
    whole, generator = path.read_bytes(), random.Random(0)
    for _ in range(300):
        data = bytearray(whole[: generator.choice([len(whole), generator.randrange(len(whole))])])
        for _ in range(generator.randrange(1, 8)):
            if data:
                data[generator.randrange(len(data))] = generator.randrange(256)
        path.write_bytes(data)
        try:
            read_torch_file(path)
        except (UnsafePickle, DamagedFile):
            continue


CLASSES = frozenset(
    {
        ("torch.nn.modules.container", "Sequential"),
        ("torch.nn.modules.conv", "Conv2d"),
        ("torch.nn.modules.batchnorm", "BatchNorm2d"),
    }
)


@both_formats
def test_a_pickled_module_gives_its_tensors_where_its_classes_are_known(tmp_path: Path, is_zip: bool) -> None:
    inner = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    network = torch.nn.Sequential(inner, torch.nn.Conv2d(3, 1, 1, bias=False))
    path = save(network, tmp_path / "m.pt", is_zip)
    module = read_torch_file(path, CLASSES)
    assert isinstance(module, Module)
    assert_same(list_module_tensors(module), dict(network.state_dict()))
    for classes in (frozenset(), CLASSES - {("torch.nn.modules.conv", "Conv2d")}):
        with pytest.raises(UnsafePickle):
            read_torch_file(path, classes)


@both_formats
@pytest.mark.parametrize("name", sorted(set(UNSAFE) - {"a module", "a set"}))
def test_a_module_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_zip: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1))
    network.extra = UNSAFE[name]
    with pytest.raises(UnsafePickle):
        read_torch_file(save(network, tmp_path / "m.pt", is_zip), CLASSES)
    assert not (tmp_path / "ran").exists()


def test_modules_in_one_another_are_bounded() -> None:
    endless = Module()
    endless.state = {"_modules": {"a": endless, "b": endless}}
    with pytest.raises(DamagedFile, match="in one another"):
        list_module_tensors(endless)
    wide = Module()
    for _ in range(12):
        outer = Module()
        outer.state = {"_modules": {str(n): wide for n in range(100)}}
        wide = outer
    with pytest.raises(DamagedFile, match="too many modules"):
        list_module_tensors(wide)
    long_names = Module()
    long_names.state = {"_buffers": {"a" * 1000: np.zeros(1)}}
    with pytest.raises(DamagedFile, match="long names"):
        list_module_tensors(long_names)
