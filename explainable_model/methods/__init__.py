"""The CAM methods: one function each, and the table of them."""

from collections.abc import Mapping

from explainable_model.attribution.method import Method
from explainable_model.methods.gradcam import gradcam
from explainable_model.methods.image_table import IMAGE_ROWS
from explainable_model.methods.pure import Activations, CamMethod, Gradients
from explainable_model.methods.table import LAYER_ROWS
from explainable_model.spelling import simplify, suggest

__all__ = ["METHODS", "Activations", "CamMethod", "Gradients", "Method", "find_method", "gradcam"]

METHODS: Mapping[str, Method] = {row.name: row for row in (*LAYER_ROWS, *IMAGE_ROWS)}
"""Name -> method."""


def find_method(name: str) -> Method:
    """The method of that name, or of that title: ``GradCAM`` and ``Grad-CAM`` are ``gradcam``.

    Raises:
        ValueError: no such method; the known ones are listed.
    """
    if not isinstance(name, str):
        raise ValueError(
            f"method is {type(name).__name__}; expected the name of one method, for example 'gradcam'. Wrap the "
            "network once for each method: {name: ExplainableModel(model, layer, name) for name in names}."
        )
    if name in METHODS:
        return METHODS[name]
    spelled = {simplify(spelling): method for method in METHODS.values() for spelling in (method.title, method.name)}
    if simplify(name) in spelled:
        return spelled[simplify(name)]
    raise ValueError(f"Unknown method {name!r}; known methods: {', '.join(METHODS)}.{suggest(name, METHODS)}")
