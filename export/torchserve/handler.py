"""TorchServe's side of the HTTP contract: rows in, bytes and statuses out. The contract is explainable_model.serving.

Everything that this imports, but for torch, NumPy and Pillow, travels in the archive (see make.py).
"""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))  # the archive's own explainable_model, whatever else is installed

from explainable_model.artifact.metadata import parse_metadata
from explainable_model.exporters.torchscript import open_ as open_torchscript
from explainable_model.runtime import Session
from explainable_model.serving import Request, Service, Settings

log = logging.getLogger(__name__)


class ExplainHandler:
    """One worker: TorchServe wants exactly one class in this module, with these two methods."""

    def initialize(self, context: Any) -> None:
        """Load the artifact on the device that TorchServe chose; the worker is ready only if it answers right."""
        folder = Path(context.system_properties["model_dir"])
        options = (context.model_yaml_config or {}).get("handler") or {}
        path = folder / context.manifest["model"]["serializedFile"]
        gpu = context.system_properties.get("gpu_id")
        device = f"cuda:{gpu}" if gpu is not None and torch.cuda.is_available() else "cpu"
        torch.backends.cudnn.allow_tf32 = False  # the artifact must reproduce its recorded answer
        threads = options.pop("threads", None)
        runner, metadata = open_torchscript(path, threads, device)
        session = Session(path, parse_metadata(metadata, path), runner)
        settings = Settings(colormap=np.load(folder / "palette.npy"), **options)
        self.service = Service(session, session.metadata, settings)
        log.info("%s explained at %s is ready on %s", session.metadata.model, session.metadata.target_layer, device)

    def handle(self, rows: list[Mapping[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch; each request gets a status and a content type of its own."""
        requests = [to_request(row, context.get_all_request_header(index)) for index, row in enumerate(rows)]
        responses, durations = self.service.answer(requests)
        for index, response in enumerate(responses):
            context.set_response_status(int(response.status), response.status.phrase, index)
            context.set_response_content_type(index, response.content_type)
            for name, value in response.headers.items():
                context.set_response_header(index, name, value)
        report(durations, [int(response.status) for response in responses], context.metrics)
        return [response.body for response in responses]


def to_request(row: Mapping[str, Any], headers: Mapping[str, Any]) -> Request:
    """A row as TorchServe makes it: the whole body under ``body``, or the fields of a form or of a gRPC call."""
    fields = dict(row)
    whole = fields.pop("body", None)
    if isinstance(whole, Mapping):
        fields.update(whole)
    elif whole is not None:
        is_json = str(headers.get("body", {}).get("content-type", "")).startswith("application/json")
        fields["image"] = None if is_json else whole.encode() if isinstance(whole, str) else whole
    if "data" in fields:  # TorchServe's own clients call it so
        fields.setdefault("image", fields["data"])
    accept = next((value for name, value in headers.items() if name.lower() == "accept" and isinstance(value, str)), "")
    return Request(fields, accept)


def report(durations: Any, statuses: list[int], metrics: Any) -> None:
    """Histograms in seconds, and how many requests were refused."""
    from ts.metrics.metric_type_enum import MetricTypes

    spans = {"DecodeTime": durations.decode, "ExplainTime": durations.explain, "EncodeTime": durations.encode}
    for name, milliseconds in spans.items():
        metrics.add_time(name, milliseconds / 1000, unit="s", metric_type=MetricTypes.HISTOGRAM)
    metrics.add_counter("RefusedRequests", sum(status != 200 for status in statuses))
