"""The options of the commands for sets of photos: evaluate, compare, batch and report."""

import argparse
from pathlib import Path

from explainable_model.cli.arguments import FILE_HELP, add_file, add_output_kind, add_photos, add_source, add_trusted
from explainable_model.cli.method_options import parse_count
from explainable_model.cli.preparation import add_preparation

ENGINES = ("local", "ray")


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Measures, masks and where the values go."""
    add_photos(parser)
    add_source(parser)
    add_preparation(parser)
    add_output_kind(parser)
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="methods of a network; default: gradcam")
    parser.add_argument("--layers", nargs="+", metavar="NAME", help="layers of a network; default: found by itself")
    parser.add_argument("--predictor", type=Path, metavar="FILE", help="a file of the network that predicts faster")
    parser.add_argument("--measures", nargs="+", metavar="NAME", help="default: the usual ones, see docs/evaluation.md")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="pictures with the photos' names: where the class is")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is drawn; default: %(default)s")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="keep the values of each photo, and continue there")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write a page (.html), a table (.csv) or .json")


def add_batch(parser: argparse.ArgumentParser) -> None:
    """Where the photos come from, what a row holds, and who does the work."""
    add_file(parser)
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="folders, files, patterns in quotes, tables of paths (.csv), WebDataset tars (.tar), Parquet files that "
        "hold the photos' bytes, stores (s3://bucket/photos)",
    )
    add_trusted(parser)
    parser.add_argument(
        "--class",
        dest="class_name",
        metavar="N|NAME",
        help="default: the predicted class of each photo; not for detectors",
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="best classes in a row; default: %(default)s")
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument("--labels", type=Path, metavar="FILE", help="a .csv file with the columns path and label")
    labels.add_argument("--folder-labels", action="store_true", help="the name of a photo's folder is its label")
    parser.add_argument("--retry-failed", action="store_true", help="also make the rows again that have an error")
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0], help="default: %(default)s")
    parser.add_argument("--device", metavar="NAME", help="cuda for TorchScript on a GPU; default: the CPU")
    parser.add_argument(
        "--processes", type=parse_count, metavar="N", help="default: measured, from 2,000 photos on; of ray: actors"
    )
    parser.add_argument("--threads", type=parse_count, metavar="N", help="of each process; default: measured")
    parser.add_argument(
        "--batch", type=parse_count, default=8, metavar="N", help="photos at once; default: %(default)s"
    )
    parser.add_argument(
        "--part", type=parse_count, metavar="N", help="rows of a file, which a kill can cost; default: 50 to 1000"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="the run: new, or to go on with")


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Two files and the photos."""
    parser.add_argument("a", type=Path, metavar="A", help=FILE_HELP)
    parser.add_argument("b", type=Path, metavar="B", help="another one")
    add_photos(parser)
    add_trusted(parser)


def add_report(parser: argparse.ArgumentParser) -> None:
    """A run, and what the page shows."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder that batch wrote")
    parser.add_argument("--against", type=Path, metavar="RUN", help="another run of the same photos, to compare with")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="where the photos lie now; default: where they lay")
    parser.add_argument("--no-thumbnails", action="store_true", help="draw the maps alone, and read no photo")
    parser.add_argument(
        "--limit", type=parse_count, default=5000, metavar="N", help="most photos on the page; default: %(default)s"
    )
    parser.add_argument("--title", metavar="TEXT", help="of the page; default: the name of the folder")
    parser.add_argument(
        "--coco", type=Path, metavar="FILE", help="also write boxes of COCO: a detector's, or where maps are hot"
    )
    parser.add_argument("--label-studio", type=Path, metavar="FILE", help="also write tasks with pre-annotations")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the page, ending in .html")
