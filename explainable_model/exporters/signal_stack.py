"""Keep the stack on which a thread handles signals, where a library exchanges it."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Give the thread back its alternate stack for signals afterwards; see ``sigaltstack(2)``.

    OpenVINO's plugin for the CPU gives the thread that loads it another one, and unmaps it with the last ``Core``. Only
    the thread that lets the ``Core`` go gets its own back. Any other would be left with a stack that is gone, and the
    kernel ends the process at its next signal that has a handler, such as that of a child that ends.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    library, before = ctypes.CDLL(None), _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)
