"""``explainable-model layers``: list the layers of a network that can be explained."""

import argparse

from explainable_model.cli.console import Console
from explainable_model.cli.network import load_network, make_example_image
from explainable_model.cli.outcome import Outcome, align_columns
from explainable_model.errors import LayerError, ModelError


def layers(arguments: argparse.Namespace, console: Console) -> Outcome:
    """List every layer with a spatial map, and mark the default."""
    from explainable_model.eager.find_layer import default_layer, find_layers
    from explainable_model.explainer.explainer import wrap_network_errors

    named = load_network(arguments, console)
    image = make_example_image(named, arguments.size)
    with wrap_network_errors(named.model, image.shape):
        candidates = find_layers(named.model, image)
        try:
            default, reason = default_layer(named.model, image), ""
        except (LayerError, ModelError) as error:
            default, reason = None, str(error)
    rows = [("", "layer", "type", "output")]
    rows += [("*" if c.name == default else "", c.name, c.type, " x ".join(map(str, c.shape))) for c in candidates]
    text = f"{align_columns(rows)}\n* marks the default." if default else f"{align_columns(rows)}\n{reason}"
    records = [{"name": c.name, "type": c.type, "shape": list(c.shape), "layout": c.kind} for c in candidates]
    return Outcome(text, {"model": arguments.model, "image": list(image.shape), "default": default, "layers": records})
