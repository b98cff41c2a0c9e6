"""segserve: encode an image once, then answer every prompt on it in milliseconds."""

import os
import sys

# The only place of the version: pyproject.toml reads it here.
__version__ = "0.2.0"

# ONNX Runtime writes events below ~/.cache/Microsoft and sends them to its vendor. It reads this variable when it is
# imported, and every module of segserve imports this one first. Processes that are started from here inherit it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# OpenVINO reports its import to its vendor where it finds this package, and has no variable against that. None means
# "not installed" to it. Whoever wants the reports imports the package first.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
