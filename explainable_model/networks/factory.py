"""Calls the function of a user that makes a network: in a module that can be imported, or in a Python file."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from explainable_model.errors import MissingRuntimeError, ModelError, first_line
from explainable_model.spelling import suggest

EXPECTED = "Expected a function without arguments that returns an nn.Module or an explainable_model.NamedModel."


def call_factory(name: str) -> Any:
    """Call ``package.module:factory`` or ``./folder/file.py:factory``.

    Args:
        name: module or file, a colon, and the function. A file may import its neighbors, as when Python runs it.

    Returns:
        What the function returns.

    Raises:
        ModelError: the module cannot be imported, has no such function, or the function fails.
    """
    source, _, attribute = name.rpartition(":")
    module = _load_file(Path(source), name) if is_file_name(source) else _import(source, name)
    factory = _find(module, source, attribute)
    try:
        return factory()
    except (ModelError, MissingRuntimeError):
        raise
    except (Exception, SystemExit) as error:  # a factory of the user may raise anything
        raise ModelError(f"{name}() raised {type(error).__name__}: {_say(error)}. {EXPECTED}") from error


def is_file_name(source: str) -> bool:
    """Whether the text before the colon names a Python file, and not a module."""
    return source.endswith(".py") or "/" in source or "\\" in source


def _import(source: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(source)
    except ModuleNotFoundError as error:
        if error.name is not None and (source == error.name or source.startswith(f"{error.name}.")):
            beside = Path(f"{source.replace('.', '/')}.py")
            hint = (
                f"Write ./{beside}:{name.rpartition(':')[2]} for the file" if beside.is_file() else "Run in its folder"
            )
            raise ModelError(
                f"{name} needs the module {source}, which cannot be imported ({error}). {hint}, or install it; a "
                "network of a library is named torchvision:NAME or timm:NAME."
            ) from error
        raise _refuse_module(source, error) from error
    except (Exception, SystemExit) as error:  # the module of a user may raise anything
        raise _refuse_module(source, error) from error


def _load_file(path: Path, name: str) -> ModuleType:
    if not path.is_file():
        near = suggest(path.name, [file.name for file in path.parent.glob("*.py")]) if path.parent.is_dir() else ""
        raise ModelError(
            f"There is no file {path}.{near} Expected a Python file with a function: ./my_model.py:factory."
        )
    resolved = path.resolve()
    key = f"_explainable_model_{sha256(str(resolved).encode()).hexdigest()[:12]}_{resolved.stem}"
    spec = importlib.util.spec_from_file_location(key, resolved)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} is no Python file; expected one with a function: ./my_model.py:factory.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module  # dataclasses and pickle look the module up
    sys.path.insert(0, str(resolved.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the file of a user may raise anything
        del sys.modules[key]
        raise _refuse_module(name.rpartition(":")[0], error) from error
    finally:
        sys.path.remove(str(resolved.parent))
    return module


def _refuse_module(source: str, error: BaseException) -> ModelError:
    where = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename != __file__ and not frame.filename.startswith("<"):
            where = f" (line {frame.lineno} of {Path(frame.filename).name})"
    return ModelError(f"{source} raised {type(error).__name__} while it was read: {_say(error)}{where}.")


def _find(module: ModuleType, source: str, attribute: str) -> Callable[[], Any]:
    factory = getattr(module, attribute, None)
    if isinstance(factory, nn.Module):
        raise ModelError(
            f"{attribute} of {source} is a network, not a function. Write a function that returns it: "
            f"def make(): return {attribute}."
        )
    if callable(factory):
        return factory  # type: ignore[no-any-return]
    own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    listed = [key for key in own if getattr(vars(module)[key], "__module__", None) == module.__name__]
    functions = f" Its functions are: {', '.join(listed[:8])}." if listed else ""
    if factory is not None:
        raise ModelError(f"{attribute} of {source} is a {type(factory).__name__}. {EXPECTED}{functions}")
    raise ModelError(f"{source} has no {attribute!r}.{suggest(attribute, own)}{functions}")


def _say(error: BaseException) -> str:
    return first_line(error).rstrip(".")
