"""The service over both kinds of artifact that the servers take."""

from pathlib import Path

import pytest

from explainable_model import load
from explainable_model.serving import Service


@pytest.fixture(params=["onnx", "ts"])
def service(request: pytest.FixtureRequest, artifacts: dict[str, Path]) -> Service:
    session = load(artifacts[request.param], threads=1)
    return Service(session, session.metadata)
