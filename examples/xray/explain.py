"""Explains radiographs from end to end: words, the tutorial's look, a batch, scores, and every format.

All opacities are *simulated*. The network knows nothing about real disease.

Usage: python examples/xray/explain.py [--out xray-output] [--picture docs/pictures/xray.png] [--films 100]

Without the package pydicom-data, generated films alone are used.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from tqdm import tqdm
from xray_films import Case, find_radiograph, iterate_cases, read_radiograph
from xray_network import LAYER, PREPARATION, load_classifier

import explainable_model as xm
from explainable_model.errors import MissingRuntimeError
from explainable_model.evaluation import Evaluation, evaluate
from explainable_model.imaging.tiles import Tile, tile_sheet

METHODS = ("gradcam", "gradcam++", "hirescam", "layercam")
SUFFIXES = (".onnx", ".ts", ".pt2", ".xml", ".pte")
LOOK = {"colormap": "jet", "alpha": 0.4}  # of the tutorial, which also squares the map
GREEN = (0, 230, 118)


def explain_in_words(cases: Sequence[Case]) -> list[xm.PhotoExplanation]:
    """Explain each film by its path or its pixels, and print what the network says."""
    answers = [xm.explain(case.film, load_classifier(), target_layer=LAYER) for case in cases]
    for case, answer in zip(cases, answers, strict=True):
        print(f"{'with' if case.is_opaque else 'without'} a simulated opacity, {case.origin} film: {answer.label}")
    return answers


def draw_like_the_tutorial(answer: xm.PhotoExplanation) -> Image.Image:
    """Square the map and draw it in jet, as the tutorial does."""
    return replace(answer, cam=answer.cam**2).overlay(**LOOK)


def outline(case: Case) -> Image.Image:
    """Draw the outline of the known mask on the film."""
    mask = Image.fromarray(case.mask)
    edge = np.asarray(mask.convert("L").filter(ImageFilter.MaxFilter(5))) > np.asarray(mask.convert("L"))
    picture = np.array(case.film.convert("RGB"))
    picture[edge] = GREEN
    return Image.fromarray(picture)


def draw_sheet(cases: Sequence[Case], answers: Sequence[xm.PhotoExplanation]) -> Image.Image:
    """Draw the films over their explanations."""
    films = [
        Tile(outline(case), f"{case.origin} film", "known mask in green" if case.is_opaque else "nothing simulated")
        for case in cases
    ]
    maps = [
        Tile(draw_like_the_tutorial(answer), answer.label, answer.explainer.describe_method()) for answer in answers
    ]
    return tile_sheet([*films, *maps], "Simulated opacities in chest films", columns=len(cases))


def explain_batch(cases: Sequence[Case]) -> float:
    """Explain all films in one call; returns the largest difference to one call for each."""
    named = load_classifier()
    explainable = xm.ExplainableModel(named.model, LAYER)
    images = torch.from_numpy(np.concatenate([PREPARATION(case.film) for case in cases]))
    together = explainable(images).cam
    alone = torch.cat([explainable(image[None]).cam for image in images])
    return float((together - alone).abs().max())


def compare_with_masks(cases: Iterator[Case], count: int) -> Evaluation:
    """Measure four methods on films with an opacity, beside two maps that know nothing."""
    opaque = list(islice((case for case in cases if case.is_opaque), count))
    masks = {f"photo {number}": case.mask for number, case in enumerate(opaque, 1)}
    with tqdm(total=count, desc="measuring", unit="film") as bar:
        return evaluate(
            load_classifier(),
            [case.film for case in opaque],
            measures=["pointing_game", "iou", "energy_in_mask"],
            masks=masks,
            methods=METHODS,
            target_layer=LAYER,
            progress=lambda stage, done, total: bar.update(done - bar.n),
        )


def export_everywhere(case: Case, out: Path, suffixes: Sequence[str] = SUFFIXES) -> Iterator[str]:
    """Write an artifact in each format whose runtime is installed; tells what each says about a film."""
    named = load_classifier()
    explainable = xm.ExplainableModel(named.model, LAYER)
    image = torch.from_numpy(PREPARATION(case.film))
    for suffix in suffixes:
        path = out / f"xray{suffix}"
        try:
            xm.export(
                explainable, path, image, preprocess=PREPARATION, class_names=named.class_names, output_kind="binary"
            )
        except MissingRuntimeError as error:
            yield f"{path.name}: left out. {error}"
            continue
        answer = xm.explain(case.film, xm.load(path, trusted=True))  # made a moment ago
        off = float(np.abs(answer.cam - explainable(image).cam[0].numpy()).max())
        yield f"{path.name}: {answer.label}; map off by {off:.0e}; {path.stat().st_size / 1e6:.1f} MB"


def explain_dicom(out: Path) -> str:
    """Explain the whole radiograph from its DICOM file, and write the answer as DICOM."""
    answer = xm.explain(find_radiograph(), load_classifier(), target_layer=LAYER)
    path = answer.save(out / "radiograph-explained.dcm")
    return f"{find_radiograph().name}: {answer.label} -> {path}"


def choose_four(cases: Iterator[Case]) -> list[Case]:
    """Two films with an opacity and two without, of both origins if there are two."""
    several = list(islice(cases, 60))
    chosen: list[Case] = []
    for opaque in (True, True, False, False):
        rest = [case for case in several if case.is_opaque == opaque and case not in chosen]
        fresh = [case for case in rest if case.origin not in {one.origin for one in chosen if one.is_opaque == opaque}]
        chosen.append((fresh or rest)[0])
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("xray-output"))
    parser.add_argument("--films", type=int, default=100, help="how many films with an opacity are scored")
    parser.add_argument(
        "--formats", nargs="+", default=SUFFIXES, metavar="SUFFIX", help="default: all that are installed"
    )
    parser.add_argument("--picture", type=Path, help="only draw the sheet of generated films into this file")
    arguments = parser.parse_args()
    if arguments.picture:
        cases = choose_four(iterate_cases("test", 5, None))
        draw_sheet(cases, explain_in_words(cases)).save(arguments.picture)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    film = read_radiograph() if find_spec("data_store") and find_spec("pydicom") else None
    cases = choose_four(iterate_cases("test", 5, film))
    answers = explain_in_words(cases)
    draw_sheet(cases, answers).save(arguments.out / "sheet.png")
    for number, (case, answer) in enumerate(zip(cases, answers, strict=True)):
        case.film.save(arguments.out / f"film-{number}.png")
        answer.save(arguments.out / f"explained-{number}.png")
    print(f"a batch of four differs from four calls by {explain_batch(cases):.0e}")
    print(compare_with_masks(iterate_cases("test", 7, film), arguments.films))
    for line in export_everywhere(cases[0], arguments.out, arguments.formats):
        print(line, flush=True)
    if film is not None:
        print(explain_dicom(arguments.out))


if __name__ == "__main__":
    main()
