"""What preparing a photo of any shape takes: tensors bounded by its sides and the input's, numbers of 32 bits."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from explainable_model import Preprocess
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.lowering.imaging import PhotoIO

SIZE = (24, 32)
LONG = [(20_000, 1), (1, 20_000), (3, 9_000), (9_000, 3)]


class Work(TorchDispatchMode):
    """Notes the largest tensor and the largest whole number of everything that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.numel():
                self.elements = max(self.elements, tensor.numel())
                if tensor.dtype is torch.int64:
                    self.number = max(self.number, int(tensor.abs().max()))
        return result


@pytest.mark.parametrize("shape", LONG)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("resize", [None, 36])
def test_a_long_photo_is_not_resized_as_a_whole(shape: tuple[int, int], interpolation: str, resize: int | None) -> None:
    preprocess = Preprocess(SIZE, mean=(0.0,) * 3, std=(1.0,) * 3, resize=resize, interpolation=interpolation)
    levels = np.random.default_rng(0).integers(70, 186, (*shape, 3), dtype=np.uint8)
    photo = torch.from_numpy(AsDecoded("NCHW")(Image.fromarray(levels)))
    frame = PhotoIO(preprocess)
    with Work() as work:
        image = frame.image(photo)
        maps = frame.maps(torch.rand(1, *SIZE), photo)
    assert maps.shape == (1, *shape)
    assert work.elements <= 3 * max(shape) * (max(SIZE) + 4)  # a side of the photo by a side of the input
    assert work.number < 2**31  # OpenVINO computes whole numbers in 32 bits
    off = np.abs(image.numpy() - preprocess(Image.fromarray(levels))) * 255
    assert (off > 1.01).mean() < (0.2 if interpolation == "nearest" else 0.05)
