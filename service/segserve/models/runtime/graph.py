"""The protocol of every runtime: a graph that is loaded and can be run."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray


class DeviceArray:
    """`DeviceArray` is an array in a device's memory, for graphs on that device. It is freed with this object.

    Arrays that many runs read stay there, so that a run moves only the others.
    """

    def __init__(self, value: Any) -> None:
        self.value = value  # onnxruntime.OrtValue
        self.nbytes = int(value.tensor_size_in_bytes())

    def numpy(self) -> NDArray[Any]:
        """Return a copy on the host."""
        array: NDArray[Any] = self.value.numpy()
        return array


Arrays = Mapping[str, NDArray[Any]]
# Each array is in the host's memory, or in the memory of the device whose graphs read it.
HostOrDeviceArrays = Mapping[str, NDArray[Any] | DeviceArray]


class Graph(Protocol):
    """`Graph` is one loaded ONNX file: named arrays in, named arrays out. Several threads may run it at once.

    inputs, outputs: their names, in the graph's order.
    integers: the names of the int64 inputs.
    is_batched: whether the first axis of the first input is free.
    keeps_on_device: whether `to_device` and `run_on_device` leave arrays in a device's memory.
    """

    inputs: list[str]
    outputs: list[str]
    integers: set[str]
    is_batched: bool
    keeps_on_device: bool

    def run(
        self, inputs: HostOrDeviceArrays, outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run the graph and return the outputs on the host.

        inputs: may hold more arrays than the graph reads.
        outputs: the names to return; None returns all.

        Raises OutOfMemory.
        """
        ...

    def run_on_device(self, inputs: HostOrDeviceArrays) -> HostOrDeviceArrays:
        """Run the graph as `run` does. All outputs stay in the device's memory if this graph keeps arrays there."""
        ...

    def to_device(self, array: NDArray[Any]) -> NDArray[Any] | DeviceArray:
        """Return the array where this graph's runs read it fastest. Raises OutOfMemory."""
        ...
