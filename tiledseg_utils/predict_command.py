"""The commands `predict` and `instances`: from images to masks, probability maps and labels."""

import functools

from .console import print_table
from .files import UserError, progress
from .text import printable


def tiles(arguments) -> dict:
    """How to predict in tiles, of the arguments that `__main__.add_prediction_arguments` added."""
    names = ("mode", "tile_size", "overlap", "symmetries", "memory_mb")
    return {name: getattr(arguments, name) for name in names}


def predictor(model, arguments):
    """What predicts a whole image as the arguments of `__main__.add_prediction_arguments` say."""
    from .inference import at_scales, predict_tiled

    return at_scales(functools.partial(predict_tiled, model, **tiles(arguments)), arguments.scales)


def foreground(arguments) -> dict:
    """What is foreground in a prediction, for `evaluation.find_foreground`; refused before anything is predicted."""
    from .evaluation import check_confidence

    check_confidence(arguments.min_confidence)
    return {name: getattr(arguments, name) for name in ("threshold", "min_area", "min_confidence")}


def predict(arguments) -> None:
    from .evaluation import find_foreground
    from .inference import load_model, predict_file
    from .pictures import read_image, write_image
    from .plots import PIL_GREEN, overlay

    outputs = {path: arguments.out / f"{path.stem}.{arguments.format}" for path in arguments.images}
    doubled = {path.stem for path in arguments.images if list(outputs.values()).count(outputs[path]) > 1}
    if doubled:
        raise UserError(
            ", ".join(sorted(doubled)), "several images would write this one mask", "Predict them into two folders"
        )
    existing = [out for out in outputs.values() if out.exists()]
    if existing and not arguments.overwrite:
        remedy = "Choose another folder, or replace them with --overwrite"
        more = f", and so do {len(existing) - 1} more" if existing[1:] else ""
        raise UserError(existing[0], f"exists already{more}", remedy)
    if arguments.format == "png" and (arguments.probability or arguments.skip_contrast):
        raise UserError("--format png", "holds a mask that is predicted in memory", "Choose --format tif or npy")
    in_memory = {
        "--overlay": arguments.overlay,
        "--scales": arguments.scales != [1],
        "--min-area": arguments.min_area > 0,
        "--min-confidence": arguments.min_confidence > 0,
    }
    given = [option for option, asked in in_memory.items() if asked]
    if given and arguments.format != "png":
        remedy = "Choose --format png, or do without: --scales 1 --min-area 0 --min-confidence 0, no --overlay"
        raise UserError(", ".join(given), "needs the whole image in memory", remedy)
    kept = foreground(arguments)
    model = load_model(arguments.model)
    if arguments.format != "png":
        threshold = None if arguments.probability else arguments.threshold
        streaming = {"threshold": threshold, "skip_contrast": arguments.skip_contrast, "overwrite": arguments.overwrite}
        rows = []
        for path, out in outputs.items():
            rows.append({"image": path.name, **predict_file(model, path, out, **tiles(arguments), **streaming)})
        print_table(rows)
    else:
        segment = predictor(model, arguments)
        for path, out in progress(outputs.items(), unit="image"):
            image = read_image(path)
            mask = find_foreground(segment(image), **kept)
            write_image(out, mask)
            if arguments.overlay:
                write_image(out.with_name(f"{out.stem}_overlay.png"), overlay(image, mask, PIL_GREEN))
    print(f"{len(outputs)} {'probability map' if arguments.probability else 'mask'}(s) in {printable(arguments.out)}")


def label_instances(arguments) -> None:
    from .inference import load_model
    from .instances import label_file

    model = load_model(arguments.model, (1, 6)) if arguments.model else None
    method = arguments.method or ("flow" if model and model.output_shape[-1] == 6 else "watershed")
    names = ("threshold", "min_area", "overwrite")
    options = {name: getattr(arguments, name) for name in names} | ({"mode": "auto"} if model else {})
    rows = []
    for path in arguments.images:
        out = arguments.out / f"{path.stem}.tif"
        rows.append({"image": path.name, "nuclei": label_file(path, out, model, method, **options), "labels": out})
    print_table(rows)
