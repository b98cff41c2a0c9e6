"""Read the tensors of PyTorch's files without torch: .pt and .pth, as torch.save writes them.

Since 1.6 such a file is a zip archive: a pickle, and one entry of bytes for each storage. Before, it was a row of
pickles with the storages after them. A pickle is a program, so this module runs it in an interpreter that knows a few
instructions, the functions that torch.save writes for tensors, and nothing else. Numbers in the file are bounded by the
file's own size before memory is taken for them.
"""

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from segserve.models.importers.zip_packing import is_safely_packed

# A pickle of names and shapes is small: SAM's vit_h has 60 kB, an optimizer's state as much again. One byte of a pickle
# may make an object of 70 bytes.
MAX_PICKLE_BYTES = 16 << 20
MAX_DIMENSIONS = 16
# All tensors together, in sizes of the file. Tensors may share a storage, as tied weights do; a few bytes of a pickle
# could otherwise claim a storage again and again.
MAX_SHARING = 4
# Elements that a pickle's calls copy into new containers.
MAX_COPIED_ITEMS = 1_000_000
# Of a pickled module: a module may be in itself, or in many others.
MAX_NESTED_MODULES = 16
MAX_MODULE_ITEMS = 20_000  # modules and tensors, each as often as it is named
MAX_NAME = 256  # characters
MAX_TENSORS = 20_000
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of name and extra field

# numpy has no bfloat16: its bits are read as uint16 and widened.
BFLOAT16 = "bfloat16"
STORAGE_TYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


class UnsafePickle(Exception):
    """The pickle asks for something that is not a tensor, a number, a text or a container of them."""


class DamagedFile(Exception):
    """The file is no file of torch.save, or is cut short, or contradicts itself."""


class StorageType:
    """The type of a storage's elements, where a pickle names it. name: numpy's name, or BFLOAT16."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("uint16" if self.name == BFLOAT16 else self.name)


class Storage:
    """The elements of one storage, flat; None while they are not known. type: of the elements."""

    def __init__(self, values: NDArray[Any] | None, type: StorageType) -> None:
        self.values, self.type = values, type


# Returns the storage of that key, type and number of elements.
ReadStorage = Callable[[str, StorageType, int], Storage]


def refuse_storage(key: str, type: StorageType, count: int) -> Storage:
    raise DamagedFile("a storage where there can be none")


class ModuleClass:
    """A class of torch modules, where a pickle names it. Nothing of the class itself is imported or run."""


class Module:
    """A pickled torch module: the attributes that it was saved with, `_parameters`, `_buffers` and `_modules` among
    them."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}


def read_torch_file(path: Path, modules: frozenset[tuple[str, str]] = frozenset()) -> Any:
    """Return what the file holds, tensors as arrays. The arrays are views of the file and can be written to; that
    changes no file.

    modules: the classes of torch modules that may be in it, as (module, name); each becomes a `Module`.

    Raises UnsafePickle, DamagedFile.
    """
    try:
        content = np.memmap(path, np.uint8, "c")
        if not zipfile.is_zipfile(path):
            return read_legacy(content, modules)
        with zipfile.ZipFile(path) as archive:
            return read_archive(archive, content, modules)
    except (UnsafePickle, DamagedFile):
        raise
    except Exception as error:  # damaged bytes make zipfile, pickle and numpy raise many types
        raise DamagedFile(str(error)) from error


def read_archive(
    archive: zipfile.ZipFile, content: NDArray[np.uint8], modules: frozenset[tuple[str, str]]
) -> Any:
    names = archive.namelist()
    if len(set(names)) != len(names):
        raise DamagedFile("the archive has two entries of one name")
    pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise DamagedFile("the archive has no data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    byte_order = f"{folder}byteorder"
    if byte_order in names and read_entry(archive, byte_order, len(b"little")) != b"little":
        raise DamagedFile("the file was written on a big-endian machine")

    def read_storage(key: str, type: StorageType, count: int) -> Storage:
        start, size = find_entry(archive, f"{folder}data/{key}", content)
        if count < 0 or count * type.dtype.itemsize > size:
            raise DamagedFile(f"storage {key} has {size} bytes")
        return Storage(content[start : start + count * type.dtype.itemsize].view(type.dtype), type)

    content_pickle = read_entry(archive, pickles[0], MAX_PICKLE_BYTES)
    return TensorUnpickler(
        io.BytesIO(content_pickle), read_storage, modules, MAX_SHARING * len(content)
    ).load()


def read_entry(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """Return the content of an entry, which may be deflated. Raises DamagedFile where it is larger."""
    entry = archive.getinfo(name)
    if entry.file_size > max_bytes or not is_safely_packed(entry):
        raise DamagedFile(f"{name} is too large, or packed as torch.save packs nothing")
    return archive.read(name)


def find_entry(archive: zipfile.ZipFile, name: str, content: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the offset and the size of an entry's bytes in the file. Raises DamagedFile, KeyError."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise DamagedFile(f"{name} is compressed or encrypted")
    header = content[entry.header_offset : entry.header_offset + LOCAL_HEADER.size].tobytes()
    signature, name_bytes, extra_bytes = LOCAL_HEADER.unpack(header)
    start = entry.header_offset + LOCAL_HEADER.size + name_bytes + extra_bytes
    if signature != b"PK\3\4" or entry.header_offset < 0 or start + entry.file_size > len(content):
        raise DamagedFile(f"{name} lies outside the file")
    return start, entry.file_size


def read_legacy(content: NDArray[np.uint8], modules: frozenset[tuple[str, str]]) -> Any:
    """Read the format before torch 1.6: pickles of a magic number, a version, the system, the content and the keys of
    the storages; then each storage, its number of elements before it."""
    head = io.BytesIO(content[:MAX_PICKLE_BYTES].tobytes())
    if TensorUnpickler(head).load() != LEGACY_MAGIC:
        raise DamagedFile("this is no file of torch.save")
    TensorUnpickler(head).load()  # the version
    if not TensorUnpickler(head).load()["little_endian"]:
        raise DamagedFile("the file was written on a big-endian machine")
    start, types = head.tell(), dict[str, StorageType]()
    # The storages come after the content, and only the content tells how large their elements are: it is read twice.
    TensorUnpickler(head, lambda key, type, count: Storage(None, types.setdefault(key, type)), modules).load()
    keys = TensorUnpickler(head).load()
    position, storages = head.tell(), dict[str, NDArray[np.uint8]]()
    for key in keys:
        count = int(content[position : position + 8].view("<i8")[0])
        position, size = position + 8, count * types[key].dtype.itemsize
        if count < 0 or position + size > len(content):
            raise DamagedFile(f"storage {key} lies outside the file")
        storages[key] = content[position : position + size]
        position += size

    def read_storage(key: str, type: StorageType, count: int) -> Storage:
        return Storage(storages[key].view(type.dtype), type)

    head.seek(start)
    return TensorUnpickler(head, read_storage, modules, MAX_SHARING * len(content)).load()


# torch's functions that a file of tensors calls. Everything else is refused.


def rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> NDArray[Any] | None:
    """Return the tensor as an array: a view, except for bfloat16. None where the storage's elements are not known yet.

    Raises DamagedFile outside of the storage.
    """
    if not isinstance(storage, Storage) or type(offset) is not int or not is_extent(shape, strides):
        raise DamagedFile("a tensor without storage, offset, shape or strides")
    if storage.values is None:
        return None
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    # A stride of 0 repeats elements, so a few bytes could claim any size.
    count = math.prod(shape)
    if offset < 0 or count > len(storage.values) or (count and last >= len(storage.values)):
        raise DamagedFile("a tensor outside of its storage")
    if count == 0:
        return np.zeros(shape, storage.values.dtype)
    itemsize = storage.values.itemsize
    array = np.lib.stride_tricks.as_strided(
        storage.values[offset:], shape, [stride * itemsize for stride in strides]
    )
    if storage.type.name == BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def is_extent(shape: Any, strides: Any) -> bool:
    return (
        isinstance(shape, tuple)
        and isinstance(strides, tuple)
        and len(shape) == len(strides) <= MAX_DIMENSIONS
        and all(type(value) is int and value >= 0 for value in (*shape, *strides))
    )


def rebuild_parameter(data: Any, *rest: Any) -> Any:
    return data


def check_key(key: Any) -> Any:
    """Return a key of a dict. Raises DamagedFile for one whose hash a file can choose: many of one hash take hours."""
    if type(key) not in KEY_TYPES or (type(key) is int and not -(1 << 63) <= key < 1 << 63):
        raise DamagedFile("a key that is neither a text nor a number")
    return key


def make_ordered_dict(pairs: Any = ()) -> OrderedDict[Any, Any]:
    return OrderedDict((check_key(key), value) for key, value in pairs)


def make_shape(values: Any = ()) -> tuple[Any, ...]:
    if len(values) > MAX_DIMENSIONS:
        raise DamagedFile("a shape of too many dimensions")
    return tuple(values)


def make_set(values: Any = ()) -> set[Any]:
    return {check_key(value) for value in values}


GLOBALS: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): make_ordered_dict,
    ("torch", "Size"): make_shape,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    **{("torch", name): StorageType(dtype) for name, dtype in STORAGE_TYPES.items()},
}
# What a module has beside its tensors: the names of the buffers that its state dict leaves out.
MODULE_GLOBALS: Mapping[tuple[str, str], Any] = {
    ("__builtin__", "set"): make_set,
    ("builtins", "set"): make_set,
}
FUNCTIONS = (make_ordered_dict, make_shape, make_set, rebuild_tensor, rebuild_parameter)
COPYING = (make_ordered_dict, make_set)
KEY_TYPES = (str, bytes, int, float, bool, type(None))


class TensorUnpickler(pickle._Unpickler):
    """The standard library's interpreter of pickles in Python, with the instructions that torch.save writes.

    Not the one in C: its memo takes memory for any index that a pickle names.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]]

    def __init__(
        self,
        file: io.BytesIO,
        read_storage: ReadStorage = refuse_storage,
        modules: frozenset[tuple[str, str]] = frozenset(),
        max_tensor_bytes: int = 0,
    ) -> None:
        """max_tensor_bytes: of all tensors together."""
        super().__init__(file)
        self._read_storage, self._modules = read_storage, modules
        self._tensor_bytes, self._tensors, self._copied_items = (
            max_tensor_bytes,
            MAX_TENSORS,
            MAX_COPIED_ITEMS,
        )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._modules:
            return ModuleClass()
        if self._modules and (module, name) in MODULE_GLOBALS:
            return MODULE_GLOBALS[module, name]
        try:
            return GLOBALS[module, name]
        except KeyError:
            raise UnsafePickle(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> "Storage | ModuleClass":
        """Return the storage of ("storage", type, key, location, elements); the legacy format adds a None.

        The legacy format writes a module's class as ("module", class, file, source text); the text is not read.
        """
        if isinstance(pid, tuple) and pid[:1] == ("module",) and len(pid) == 4:
            if isinstance(pid[1], ModuleClass):
                return pid[1]
            raise UnsafePickle("a module of an unknown class")
        if (
            not isinstance(pid, tuple)
            or pid[:1] != ("storage",)
            or len(pid) not in (5, 6)
            or pid[5:] not in ((), (None,))
        ):
            raise UnsafePickle("an unknown persistent id")
        storage_type, key, count = pid[1], pid[2], pid[4]
        if not isinstance(storage_type, StorageType) or not isinstance(key, str) or type(count) is not int:
            raise DamagedFile("a storage without type, key or size")
        return self._read_storage(key, storage_type, count)

    def load_reduce(self) -> None:
        function, arguments = self.stack[-2:]  # type: ignore[attr-defined]
        if function not in FUNCTIONS or not isinstance(arguments, tuple):
            raise UnsafePickle("a call that torch.save does not write")
        if function in COPYING and arguments:
            self._copied_items -= len(arguments[0])
        result = function(*arguments) if self._copied_items >= 0 else None
        if function is rebuild_tensor:
            self._tensors -= 1
            self._tensor_bytes -= 0 if result is None else result.nbytes
        if min(self._copied_items, self._tensors, self._tensor_bytes) < 0:
            raise DamagedFile("it claims more than its size allows")
        self.stack[-2:] = [result]  # type: ignore[attr-defined]

    def load_dict(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        self.stack.append(dict(pair_items(items)))  # type: ignore[attr-defined]

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()  # type: ignore[attr-defined]
        self._update([key, value])

    def load_setitems(self) -> None:
        self._update(self.pop_mark())  # type: ignore[attr-defined]

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]  # type: ignore[attr-defined]
        if type(target) not in (dict, OrderedDict):
            raise UnsafePickle("items of an object that is no dict")
        target.update(pair_items(items))

    def load_newobj(self) -> None:
        """Make a `Module`: torch writes modules as objects made without arguments."""
        module_class, arguments = self.stack[-2:]  # type: ignore[attr-defined]
        if not isinstance(module_class, ModuleClass) or arguments != ():
            raise UnsafePickle("an object that is no module")
        self.stack[-2:] = [Module()]  # type: ignore[attr-defined]

    def load_build(self) -> None:
        """Give a module its attributes. Drop the state of any other object: torch sets `_metadata` on an OrderedDict
        so; nothing reads it."""
        state = self.stack.pop()  # type: ignore[attr-defined]
        target = self.stack[-1]  # type: ignore[attr-defined]
        if isinstance(target, Module) and isinstance(state, dict):
            target.state = state

    def refuse(self) -> NoReturn:
        raise UnsafePickle("an instruction that torch.save does not write")


def pair_items(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the pairs of [key, value, key, value and so on]."""
    for index in range(0, len(items), 2):
        yield check_key(items[index]), items[index + 1]


# Instructions that make objects by other ways than a call; and bytearrays, for which memory is taken unread.
REFUSED = (
    pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4,
    pickle.PERSID, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.BYTEARRAY8,
    pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET,
)  # fmt: skip
TensorUnpickler.dispatch = {
    **pickle._Unpickler.dispatch,
    **{code[0]: TensorUnpickler.refuse for code in REFUSED},
    pickle.REDUCE[0]: TensorUnpickler.load_reduce,
    pickle.DICT[0]: TensorUnpickler.load_dict,
    pickle.SETITEM[0]: TensorUnpickler.load_setitem,
    pickle.SETITEMS[0]: TensorUnpickler.load_setitems,
    pickle.NEWOBJ[0]: TensorUnpickler.load_newobj,
    pickle.BUILD[0]: TensorUnpickler.load_build,
}


def list_module_tensors(module: Module) -> dict[str, NDArray[Any]]:
    """Return the parameters and buffers of a module and of those in it, as its `state_dict` names them.

    Raises DamagedFile where there are too many, or modules lie too deep in one another.
    """
    tensors: dict[str, NDArray[Any]] = {}
    pending, items = [("", module, 0)], 0
    while pending:
        prefix, current, depth = pending.pop()
        if depth > MAX_NESTED_MODULES:
            raise DamagedFile("too many modules in one another")
        parts = {kind: current.state.get(kind) for kind in ("_parameters", "_buffers", "_modules")}
        named = {kind: values for kind, values in parts.items() if isinstance(values, dict)}
        items += sum(map(len, named.values()))
        if items > MAX_MODULE_ITEMS or any(
            len(str(name)) > MAX_NAME for part in named.values() for name in part
        ):
            raise DamagedFile("too many modules and tensors, or too long names")
        children = [
            (f"{prefix}{k}.", v, depth + 1)
            for k, v in named.pop("_modules", {}).items()
            if isinstance(v, Module)
        ]
        pending += reversed(children)
        for values in named.values():
            tensors |= {f"{prefix}{name}": v for name, v in values.items() if isinstance(v, np.ndarray)}
    return tensors
