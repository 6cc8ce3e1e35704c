"""Imports runtimes that would look up hosts of their makers, with their telemetry off."""

import importlib
import os
import sys
from typing import Any

ONNXRUNTIME_SWITCH = "ORT_DISABLE_TELEMETRY"
OPENVINO_TELEMETRY = "openvino_telemetry"


def import_onnxruntime() -> Any:
    """Import ONNX Runtime; it reads the switch once, when it is imported, and a value of the user's stays.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault(ONNXRUNTIME_SWITCH, "1")
    return importlib.import_module("onnxruntime")


def import_openvino() -> Any:
    """Import OpenVINO as if its telemetry package were not installed, for which it has a stand-in of its own.

    OpenVINO asks for consent by a file in the home folder alone, and looks up a host before.

    Raises:
        ImportError: it is not installed.
    """
    if "openvino" in sys.modules or OPENVINO_TELEMETRY in sys.modules:  # the user's import came first
        return importlib.import_module("openvino")
    sys.modules[OPENVINO_TELEMETRY] = None  # type: ignore[assignment]  # Python's way to say: not installed
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[OPENVINO_TELEMETRY]
