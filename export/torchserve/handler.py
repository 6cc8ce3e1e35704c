"""TorchServe's handler for the HTTP contract of explainable_model.serving: rows in, bytes and statuses out.

The archive (see make.py) holds everything that this file imports, except torch, NumPy and Pillow.
"""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))  # the archive's explainable_model comes before an installed one

from explainable_model import load
from explainable_model.serving import Request, Service, Settings

log = logging.getLogger(__name__)


class ExplainHandler:
    """One worker: TorchServe expects exactly one class in this module, with these two methods."""

    def initialize(self, context: Any) -> None:
        """Load the artifact on TorchServe's device; the worker is ready only where the artifact answers as recorded."""
        folder = Path(context.system_properties["model_dir"])
        options = (context.model_yaml_config or {}).get("handler") or {}
        path = folder / context.manifest["model"]["serializedFile"]
        gpu = context.system_properties.get("gpu_id")
        device = f"cuda:{gpu}" if gpu is not None and torch.cuda.is_available() else "cpu"
        torch.backends.cudnn.allow_tf32 = False  # the artifact must reproduce its recorded answer
        threads = options.pop("threads", None)
        session = load(path, threads=threads, device=device)
        boxed = session.metadata.detection is not None and not session.metadata.diverging
        colormap = None if boxed else np.load(folder / "palette.npy")  # of boxes, each map has the color of its box
        settings = Settings(colormap=colormap, **options)
        self.service = Service(session, session.metadata, settings)
        log.info("%s explained at %s is ready on %s", session.metadata.model, session.metadata.target_layer, device)

    def handle(self, rows: list[Mapping[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch; each request gets its own status and content type."""
        requests = [to_request(row, context.get_all_request_header(index)) for index, row in enumerate(rows)]
        responses, durations = self.service.answer(requests)
        for index, response in enumerate(responses):
            context.set_response_status(int(response.status), response.status.phrase, index)
            context.set_response_content_type(index, response.content_type)
            for name, value in response.headers.items():
                context.set_response_header(index, name, value)
        report_metrics(durations, [int(response.status) for response in responses], context.metrics)
        return [response.body for response in responses]


def to_request(row: Mapping[str, Any], headers: Mapping[str, Any]) -> Request:
    """The request of a row, which has the whole body under ``body``, or the fields of a form or a gRPC call."""
    fields = dict(row)
    whole = fields.pop("body", None)
    if isinstance(whole, Mapping):
        fields.update(whole)
    elif whole is not None:
        is_json = str(headers.get("body", {}).get("content-type", "")).startswith("application/json")
        fields["image"] = None if is_json else whole.encode() if isinstance(whole, str) else whole
    if "data" in fields:  # the name that TorchServe's own clients use
        fields.setdefault("image", fields["data"])
    accept = next((value for name, value in headers.items() if name.lower() == "accept" and isinstance(value, str)), "")
    return Request(fields, accept)


def report_metrics(durations: Any, statuses: list[int], metrics: Any) -> None:
    """Report histograms in seconds, and the number of refused requests."""
    from ts.metrics.metric_type_enum import MetricTypes

    spans = {"DecodeTime": durations.decode, "ExplainTime": durations.explain, "EncodeTime": durations.encode}
    for name, milliseconds in spans.items():
        metrics.add_time(name, milliseconds / 1000, unit="s", metric_type=MetricTypes.HISTOGRAM)
    metrics.add_counter("RefusedRequests", sum(status != 200 for status in statuses))
