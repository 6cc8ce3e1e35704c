"""What the servers in ``export/`` have in common: pictures in, explanations out. Needs no torch.

A server's own kit only moves bytes: it turns what arrives into ``Request``, hands a batch of them to
``Service.answer``, and sends each ``Response`` on.
"""

from explainable_model.serving.contract import Request, RequestError, Response
from explainable_model.serving.service import Durations, Run, Service, Settings

__all__ = ["Durations", "Request", "RequestError", "Response", "Run", "Service", "Settings"]
