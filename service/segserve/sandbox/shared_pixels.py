"""Memory for pixels that a sandboxed process fills: made by the service, of the size that it chose, all zeros."""

import mmap
import os
import sys
import tempfile
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# Bytes written at a time: numpy makes a copy of this size of what is not contiguous.
_PART_BYTES = 16 << 20


class SharedPixels:
    """`SharedPixels` is the memory of one array.

    size_bytes: of the array.
    descriptor: is sent to the process, which writes to it by `write_pixels`.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._shape, self._dtype = shape, np.dtype(dtype)
        self.size_bytes = int(np.prod(shape, dtype=object)) * self._dtype.itemsize
        if sys.platform == "linux":
            import fcntl

            self.descriptor = os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self.descriptor, self.size_bytes)
            # Were it made shorter by the process, reading it would kill the service.
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)
        else:
            with tempfile.TemporaryFile() as file:
                self.descriptor = os.dup(file.fileno())
            os.ftruncate(self.descriptor, self.size_bytes)

    def copy(self) -> NDArray[Any]:
        """Return a copy of the array. A process that has not written all of it leaves zeros."""
        array = np.zeros(self._shape, self._dtype)
        view = array.reshape(-1).view(np.uint8).data
        at = 0
        while part := os.pread(self.descriptor, min(_PART_BYTES, self.size_bytes - at), at):
            view[at : at + len(part)] = part
            at += len(part)
        return array

    def view(self) -> NDArray[Any]:
        """Return the array without a copy, read-only, where the kernel keeps its size. The process must have ended."""
        if sys.platform != "linux" or not self.size_bytes:
            return self.copy()
        mapped = mmap.mmap(self.descriptor, self.size_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
        return np.frombuffer(mapped, self._dtype).reshape(self._shape)

    def close(self) -> None:
        """Close the descriptor. Arrays stay."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def write_pixels(descriptor: int, array: NDArray[Any]) -> None:
    """Write an array to the descriptor of a `SharedPixels`, in C order. Raises OSError."""
    rows = array.reshape(1) if array.ndim == 0 else array
    at, step = 0, max(1, _PART_BYTES * len(rows) // max(1, rows.nbytes))
    for start in range(0, len(rows), step):
        part = np.ascontiguousarray(rows[start : start + step]).reshape(-1).view(np.uint8).data
        while part:
            count = os.pwrite(descriptor, part, at)
            at, part = at + count, part[count:]
