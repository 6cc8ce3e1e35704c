"""``explainable-model explain``: predict and explain photos."""

import argparse
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from explainable_model.cli.console import Console
from explainable_model.cli.method_options import ALL, wrapper_arguments
from explainable_model.cli.method_options import OPTIONS as RECIPE
from explainable_model.cli.network import _load_network, _refuse
from explainable_model.cli.outcome import USAGE, Outcome, _folder
from explainable_model.errors import InputError

if TYPE_CHECKING:
    from explainable_model.explainer.explainer import Explainer


def explain(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Pictures of photos; one that cannot be read does not stop the others."""
    from explainable_model.explainer.answers import resolve_class
    from explainable_model.explainer.explainer import free_stems
    from explainable_model.imaging.overlay import COLORMAP, OverlayStyle, check_style
    from explainable_model.imaging.preprocess import open_photo

    check_style(arguments.colormap or COLORMAP, arguments.alpha, arguments.threshold)
    look = OverlayStyle(arguments.colormap, arguments.alpha, arguments.threshold, arguments.hide)
    run, class_names, say = _explaining(arguments, console)
    class_idx = resolve_class(arguments.class_wanted, class_names)
    out = _folder(arguments.out)
    found, failed = [], []
    work = list(zip(arguments.photos, free_stems(arguments.photos, out), strict=True))
    for path, stem in console.each(work, "explaining"):
        try:
            photo = open_photo(path)
        except InputError as error:
            failed.append({"photo": str(path), "error": str(error)})
        else:
            found.append(run(photo, path, class_idx, look, out / stem))
    code = USAGE if failed else 0
    record = {"photos": found, "errors": failed}
    return Outcome("\n".join(map(say, found)), record, code, [each["error"] for each in failed])


def _explaining(
    arguments: argparse.Namespace, console: Console
) -> "tuple[Callable[..., dict[str, Any]], Sequence[str] | None, Callable[[dict[str, Any]], str]]":
    """What explains one photo, the names of its classes, and how it is said."""
    from explainable_model.explainer.answers import label
    from explainable_model.explainer.explainer import artifact_explainer, explain_photo, model_explainer

    if arguments.method == ALL and arguments.artifact is None:
        return _explaining_with_all(arguments, console)
    if arguments.artifact is None:
        named = _load_network(arguments, console)
        wanted = wrapper_arguments(arguments)
        explainer = model_explainer(named, wanted.pop("target_layer", None), **wanted)
    else:
        why = "an artifact has that inside"
        _refuse(arguments, "checkpoint", "pretrained", "classes", *RECIPE, why=why)
        explainer = artifact_explainer(arguments.artifact)

    def say(each: dict[str, Any]) -> str:
        classes = "; ".join(label(one) for one in each.get("explained", [each]))
        return f"{each['photo']}: {classes} -> {each['panel']}"

    return functools.partial(explain_photo, explainer), explainer.class_names, say


def _explaining_with_all(
    arguments: argparse.Namespace, console: Console
) -> "tuple[Callable[..., dict[str, Any]], Sequence[str] | None, Callable[[dict[str, Any]], str]]":
    """The same for a sheet of every method."""
    from explainable_model.explainer.explainer import model_explainer
    from explainable_model.explainer.method_sheet import explain_with_all, in_words
    from explainable_model.methods import METHODS

    if arguments.option or arguments.top_k:
        raise InputError(
            f"--method {ALL} explains one class with each method's own options; leave out --option, --top-k."
        )
    named = _load_network(arguments, console)

    def explainer_of(method: str) -> "Explainer":
        console.say(f"{METHODS[method].title} ({list(METHODS).index(method) + 1} of {len(METHODS)})")
        wanted = wrapper_arguments(arguments, method)
        return model_explainer(named, wanted.pop("target_layer", None), **wanted)

    def run(*photo: Any) -> dict[str, Any]:
        found = explain_with_all(explainer_of, *photo)
        for failure in found["failures"]:
            console.warn(f"{METHODS[failure['method']].title} does not fit this network: {failure['error']}")
        return found

    return run, named.class_names, in_words
