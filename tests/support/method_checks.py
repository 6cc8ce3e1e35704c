"""What every CAM method must hold, whatever its formula: hard inputs, batches, tracing, ONNX Runtime.

A method is any function of tensors whose first dimension is the batch.
"""

import io
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from explainable_model.attribution.postprocess import minmax
from explainable_model.lowering.capture.export import quiet_export

Method = Callable[..., Tensor]
Shape = tuple[int, ...]  # of one image's tensor, without the batch

# The largest and smallest magnitudes that are tried; float16 reaches from 6e-8 to 65504.
TINY = {torch.float16: 1e-7, torch.bfloat16: 1e-12, torch.float32: 1e-12, torch.float64: 1e-12}
HUGE = {torch.float16: 6e4, torch.bfloat16: 1e12, torch.float32: 1e12, torch.float64: 1e12}

HARD: dict[str, Callable[[Tensor, torch.dtype], Tensor]] = {
    "normal": lambda noise, dtype: noise,
    "zero": lambda noise, dtype: torch.zeros_like(noise),
    "constant": lambda noise, dtype: torch.full_like(noise, 0.3),
    "negative": lambda noise, dtype: -noise.abs() - 0.1,
    "one hot": lambda noise, dtype: (noise == noise.max()).to(noise.dtype),
    "cancelling": lambda noise, dtype: noise - noise.mean(tuple(range(min(2, noise.ndim - 1), noise.ndim)), True),
    "tiny": lambda noise, dtype: noise.clamp(-1, 1) * TINY[dtype],
    "huge": lambda noise, dtype: noise.clamp(-1, 1) * HUGE[dtype],
}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Seeded standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def inputs(shapes: Sequence[Shape], batch: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """One seeded tensor for each shape."""
    return [normal(batch, *shape, seed=seed + index, dtype=dtype) for index, shape in enumerate(shapes)]


def hard_inputs(shapes: Sequence[Shape], first: str, others: str, dtype: torch.dtype) -> list[Tensor]:
    """The first tensor of one hard kind, the others of another."""
    noise = inputs(shapes, batch=2)
    return [HARD[others if index else first](tensor, dtype).to(dtype) for index, tensor in enumerate(noise)]


def assert_finite_on_hard_inputs(method: Method, shapes: Sequence[Shape], dtypes: Sequence[torch.dtype]) -> None:
    """Every pair of kinds, in every dtype: finite, of that dtype, and in [0, 1] once finished."""
    kinds = list(HARD) if len(shapes) > 1 else ["normal"]
    for dtype in dtypes:
        for first in HARD:
            for others in kinds:
                cam = method(*hard_inputs(shapes, first, others, dtype))
                case = f"{first}, {others}, {dtype}"
                assert cam.dtype == dtype, case
                assert torch.isfinite(cam).all(), case
                finished = minmax(cam.relu())
                assert torch.isfinite(finished).all(), case
                assert finished.min() >= 0, case
                assert finished.max() <= 1, case


def assert_batch_is_independent(method: Method, shapes: Sequence[Shape], tolerance: float = 1e-12) -> None:
    """A batch of two is two batches of one."""
    both = inputs(shapes, batch=2)
    together = method(*both)
    alone = torch.cat([method(*(tensor[n : n + 1] for tensor in both)) for n in range(2)])
    assert relative(together, alone) < tolerance


def relative(cam: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    assert cam.shape == expected.shape, f"{tuple(cam.shape)} for {tuple(expected.shape)}"
    scale = expected.double().abs().max().item()
    return (cam.double() - expected.double()).abs().max().item() / (scale or 1.0)


class _Traceable(nn.Module):
    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.method(*tensors)


def trace(method: Method, shapes: Sequence[Shape], dtype: torch.dtype = torch.float32) -> ExportedProgram:
    """The method exported with an open batch size."""
    batch = {0: Dim("batch", min=1, max=64)}
    example = tuple(inputs(shapes, batch=2, dtype=dtype))
    with quiet_export():
        return torch.export.export(
            _Traceable(method), example, dynamic_shapes=(tuple(batch for _ in shapes),), strict=False
        )


def assert_traces(method: Method, shapes: Sequence[Shape]) -> None:
    """The exported graph equals the method at other batch sizes, and branches on no value."""
    module = trace(method, shapes, torch.float64).module()
    for batch in (1, 3):
        given = inputs(shapes, batch, seed=10)
        assert relative(module(*given), method(*given)) < 1e-12


def assert_equal_in_onnx_runtime(method: Method, shapes: Sequence[Shape], tolerance: float = 1e-5) -> None:
    """ONNX Runtime gives the same map, on other inputs and at other batch sizes."""
    import onnxruntime

    program = trace(method, shapes)
    with quiet_export(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnx_program = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=18)
    assert onnx_program is not None
    written = io.BytesIO()
    onnx_program.save(written)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(written.getvalue(), options)
    for batch in (1, 3):
        given = inputs(shapes, batch, seed=20, dtype=torch.float32)
        feed = {node.name: tensor.numpy() for node, tensor in zip(session.get_inputs(), given, strict=True)}
        (cam,) = session.run(None, feed)
        assert relative(torch.from_numpy(np.asarray(cam)), method(*given)) < tolerance
