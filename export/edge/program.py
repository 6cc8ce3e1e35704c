"""The command line of the scripts in this folder: each script calls ``main`` with its function ``open_model``."""

import argparse
import io
import json
import os
import sys

import numpy as np
from bench import measure, measure_start
from detections import describe_boxes, draw_boxes, find_boxes, measure_box_parity
from edge import (
    describe_answer,
    draw_overlay,
    explain,
    make_inputs,
    measure_parity,
    open_photo,
    prepare_image,
    read_record,
)
from files import write_file
from PIL import Image


def parse_arguments(description):
    """Read the options of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("artifact")
    parser.add_argument("photo")
    parser.add_argument(
        "--class", dest="class_idx", type=int, default=-1, help="of a detector the rank of a box; default: the best"
    )
    parser.add_argument("-o", "--out", help="write the photo under its heatmap")
    parser.add_argument("--npy", help="write the heatmap")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--bench", metavar="JSON", help="measure, and write the figures to this file")
    parser.add_argument("--plain", help="the network without its explanation, measured in turn with the artifact")
    parser.add_argument("--seconds", type=float, default=20, help="how long to measure; default: 20")
    parser.add_argument("--minutes", type=int, default=0, help="then measure so many minutes: 5 make a device warm")
    parser.add_argument("--watts", type=float, help="what your power meter shows during the measurement")
    parser.add_argument("--commit", help="the commit of the artifact's sources, for the figures")
    parser.add_argument("--emulated", action="store_true", help="compare the answers and time nothing")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_program(open_model, description):
    """Explain the photo, write what the command line asks for, and return the answer for JSON."""
    options = parse_arguments(description)
    if options.alone:
        return measure_start(open_model, options)
    model = open_model(options.artifact, options.threads)
    record = read_record(model, options.artifact)
    photo = open_photo(options.photo, (record["preprocess"] or {}).get("window"))
    has_boxes = bool(record.get("detection"))
    parity = (measure_box_parity if has_boxes else measure_parity)(model, record)
    if not parity["within_tolerance"]:
        raise ValueError(f"on this device the artifact does not give its recorded answer: {parity}")
    answer = (find_boxes if has_boxes else explain)(model, record, photo, options.class_idx)
    if options.npy:
        write_file(options.npy, encode(np.save, answer.cam))
    if options.out:
        drawn = (draw_boxes if has_boxes else draw_overlay)(photo, answer, record["cam_range"][0] != 0)
        kind = Image.registered_extensions().get(os.path.splitext(options.out)[1].lower(), "PNG")
        write_file(options.out, encode(lambda file, picture: picture.save(file, format=kind), drawn))
    if options.bench:
        image, _ = prepare_image(photo, record)
        figures = measure(open_model, model, record, lambda batch: make_inputs(image, -1, record, batch), options)
        write_file(options.bench, (json.dumps({**figures, "parity": parity}, indent=1) + "\n").encode())
    return {**(describe_boxes if has_boxes else describe_answer)(answer, record), "parity": parity}


def encode(write, value):
    """The bytes that ``write(file, value)`` writes."""
    buffer = io.BytesIO()
    write(buffer, value)
    return buffer.getvalue()


def main(open_model, description):
    """Print the answer as JSON, or end with one line that says what went wrong."""
    try:
        print(json.dumps(run_program(open_model, description)))
    except Exception as error:  # Pillow and the runtimes raise errors of every type for a file that they cannot read
        sys.exit(f"error: {error}")
