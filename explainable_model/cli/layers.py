"""``explainable-model layers``: list the layers of a network that can be explained."""

import argparse
from collections.abc import Mapping

from explainable_model.cli.console import Console
from explainable_model.cli.network import load_network, make_example_image
from explainable_model.cli.outcome import Outcome, align_columns
from explainable_model.errors import LayerError, ModelError

SHOWN = 4  # other names of a layer in the table; --json has all


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
    known_as = _list_aliases(getattr(named.model, "layer_aliases", {}))
    rows = [("", "layer", "type", "output", *(["also named"] if known_as else []))]
    rows += [
        ("*" if c.name == default else "", c.name, c.type, " x ".join(map(str, c.shape)), *shown)
        for c in candidates
        for shown in [[", ".join(known_as.get(c.name, [])[:SHOWN])] if known_as else []]
    ]
    text = f"{align_columns(rows)}\n* marks the default." if default else f"{align_columns(rows)}\n{reason}"
    records = [
        {"name": c.name, "type": c.type, "shape": list(c.shape), "layout": c.kind}
        | ({"aliases": known_as[c.name]} if c.name in known_as else {})
        for c in candidates
    ]
    return Outcome(text, {"model": arguments.model, "image": list(image.shape), "default": default, "layers": records})


def _list_aliases(aliases: Mapping[str, str]) -> dict[str, list[str]]:
    """The other names of each layer, as a file has them: modules, nodes and tensors."""
    names: dict[str, list[str]] = {}
    for alias, layer in aliases.items():
        names.setdefault(layer, []).append(alias)
    return names
