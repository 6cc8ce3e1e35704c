"""Arrays as users give them: NumPy's, tensors, and lists of numbers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import InputError, first_line


def as_array(values: Any, name: str) -> NDArray[Any]:
    """A tensor or what NumPy takes as an array; bfloat16, which NumPy does not have, becomes float32.

    Raises:
        InputError: a tensor that NumPy cannot read, such as a sparse one or one on another device.
    """
    if not hasattr(values, "detach"):
        return np.asarray(values)
    try:
        values = values.detach()
        return np.asarray(values.float() if str(values.dtype) == "torch.bfloat16" else values)
    except (TypeError, RuntimeError) as error:
        raise InputError(f"{name} is a tensor that cannot be read as an array: {first_line(error)}") from error
