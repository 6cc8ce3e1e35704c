"""The common part of the servers in ``export/``: turns pictures into explanations. Needs no torch.

A server's kit only moves bytes: it turns each incoming request into a ``Request``, hands a batch of requests to
``Service.answer``, and sends each ``Response``.
"""

from explainable_model.serving.contract import Request, RequestError, Response, parse_json_fields
from explainable_model.serving.job import Settings
from explainable_model.serving.service import Durations, Run, Service

__all__ = ["Durations", "Request", "RequestError", "Response", "Run", "Service", "Settings", "parse_json_fields"]
