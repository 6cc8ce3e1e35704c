"""``explainable-model layers``: the layers of a network that can be explained."""

import argparse

from explainable_model.cli.console import Console
from explainable_model.cli.network import _example_image, _load_network
from explainable_model.cli.outcome import Outcome, columns
from explainable_model.errors import LayerError


def layers(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Every layer that has a spatial map, and the one that is taken where none is named."""
    from explainable_model.eager.find_layer import default_layer, find_layers
    from explainable_model.explainer.explainer import network_failures

    named = _load_network(arguments, console)
    image = _example_image(named, arguments.size)
    with network_failures(named.model, image.shape):
        candidates = find_layers(named.model, image)
        try:
            default, reason = default_layer(named.model, image), ""
        except LayerError as error:
            default, reason = None, str(error)
    rows = [("", "layer", "type", "output")]
    rows += [("*" if c.name == default else "", c.name, c.type, " x ".join(map(str, c.shape))) for c in candidates]
    text = f"{columns(rows)}\n* is taken where no layer is named." if default else f"{columns(rows)}\n{reason}"
    found = [{"name": c.name, "type": c.type, "shape": list(c.shape), "layout": c.layout.kind} for c in candidates]
    return Outcome(text, {"model": arguments.model, "image": list(image.shape), "default": default, "layers": found})
