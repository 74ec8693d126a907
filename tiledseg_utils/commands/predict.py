"""The command `predict`: from images to masks or probability maps."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ..base.files import UserError, atomic_path
from ..base.finished import find_finished, note_finished
from ..base.locks import lock_output
from ..base.paths import Output, model_path
from ..base.text import printable
from ..settings.command_options import CommandSetting
from ..settings.schema import add_option
from .batch import IMAGES_HELP, check_outputs, expand_images, one_by_one
from .options import (
    add_cluster_option,
    add_command,
    add_part_options,
    add_prediction_options,
    foreground,
    part_of_file,
    prediction_setting,
    predictor,
)
from .remembered import as_its_run_did


def add(commands, defaults: dict) -> None:
    command = add_command(commands, "predict", "segment images of any size with a trained model")
    command.add_argument("model", type=model_path, help="a model.keras of a run, or smears, the one in the package")
    command.add_argument("images", type=Path, nargs="+", metavar="image", help=IMAGES_HELP)
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for <stem>.png, 0 and 255 or the values of classes, as large as the image",
    )
    command.add_argument(
        "--format",
        choices=["png", "tif", "npy", "ome.zarr"],
        default="png",
        help="all but png are for images larger than memory: read and written row by row, and resumed; ome.zarr has a "
        "pyramid of smaller copies",
    )
    add_option(command, CommandSetting, "ome_zarr")
    command.add_argument(
        "--probability",
        action="store_true",
        help="not png: write the probability of foreground, float32, instead of a mask",
    )
    add_option(command, CommandSetting, "skip_contrast")
    about = "not png: skip tiles without tissue, found by its colour on a small copy; for stained slides"
    command.add_argument("--tissue", action="store_true", help=about)
    command.add_argument("--overwrite", action="store_true", help="replace masks that are there")
    add_part_options(command)
    add_cluster_option(command)
    add_prediction_options(command, defaults)
    command.add_argument(
        "--overlay", action="store_true", help="also write <stem>_overlay.png, in green or the colours of classes"
    )
    command.set_defaults(function=predict, needs_keras=True)


def predict(arguments) -> None:
    """Predict images one by one; what this command finished before is left as it is, and bad images are listed last."""
    _check_options(arguments)
    arguments.images = expand_images(arguments.images, arguments.out)
    what = "probability map" if arguments.probability else "mask"
    outputs = {path: arguments.out / f"{path.stem}.{arguments.format}" for path in arguments.images}
    overlays = {path: out.with_name(f"{out.stem}_overlay.png") for path, out in outputs.items() if arguments.overlay}
    results = [Output(out, f"the {what} of {path.name}") for path, out in outputs.items()]
    results += [Output(out, f"the overlay of {path.name}") for path, out in overlays.items()]
    check_outputs(arguments, results)

    from ..models.inputs import channels_of
    from ..prediction.cluster import connect
    from ..prediction.inference import load_model

    model = load_model(arguments.model, classes=True)
    arguments.stored = channels_of(model) is not None
    arguments = as_its_run_did(model, arguments, by_rows=arguments.format != "png")
    if arguments.format == "png":
        work = _predict_in_memory(model, arguments, outputs, overlays)
    else:
        work = _predict_by_rows(model, arguments, outputs)
    is_new = not arguments.out.exists()
    try:
        with connect(arguments.cluster) as cluster:
            one_by_one(arguments.images, lambda path: work(path, cluster))
    finally:
        if is_new:  # What has failed before it wrote anything leaves no empty folder.
            with contextlib.suppress(OSError):
                arguments.out.rmdir()
    print(f"{len(outputs)} {what}(s) in {printable(arguments.out)}")


def _check_options(arguments) -> None:
    if arguments.format == "png" and (
        arguments.probability or arguments.skip_contrast or arguments.cluster or arguments.tissue
    ):
        remedy = "Choose --format tif, npy or ome.zarr"
        raise UserError("--format png", "holds a mask that is predicted in memory", remedy)
    in_memory = {
        "--overlay": arguments.overlay,
        "--non-tiled": arguments.non_tiled > 0,
        "--scales": arguments.scales != [1],
        "--min-area": arguments.min_area > 0,
        "--min-confidence": arguments.min_confidence > 0,
    }
    given = [option for option, asked in in_memory.items() if asked]
    if given and arguments.format != "png":
        without = "--scales 1 --min-area 0 --min-confidence 0 --non-tiled 0, no --overlay"
        remedy = f"Choose --format png, or do without: {without}"
        raise UserError(", ".join(given), "needs the whole image in memory", remedy)


def _predict_by_rows(model, arguments, outputs: dict[Path, Path]) -> Callable[..., dict]:
    """What predicts one image from file to file, and returns a row of the table."""
    from ..prediction.inference import predict_file

    options = {name: getattr(arguments, name) for name in ("skip_contrast", "overwrite", "tissue", "ome_zarr")}
    options |= {"setting": prediction_setting(arguments)}
    options |= {"threshold": None if arguments.probability else arguments.threshold}

    def work(path: Path, cluster) -> dict:
        report = predict_file(model, part_of_file(path, arguments), outputs[path], cluster=cluster, **options)
        return {"image": path.name, **report}

    return work


def _predict_in_memory(model, arguments, outputs: dict[Path, Path], overlays: dict[Path, Path]) -> Callable[..., None]:
    """What predicts one image in memory, and writes its mask and perhaps an overlay."""
    from ..data.pictures import write_image
    from ..data.streaming import hash_part, read_whole
    from ..models.model_files import fingerprint
    from ..prediction.tiled import as_learnt

    decide, stored, draw = _masks_of(model)
    segment, kept = predictor(model, arguments), foreground(arguments)
    settings = {**asdict(prediction_setting(arguments)), **kept, "scales": list(arguments.scales)}
    settings |= {"non_tiled": arguments.non_tiled} if arguments.non_tiled else {}
    made_with = {"model": fingerprint(model), "settings": settings}

    def work(path: Path, cluster: None) -> None:
        part = as_learnt(model, part_of_file(path, arguments))
        identity = {"image": hash_part(part), **made_with}
        wanted = [outputs[path], overlays[path]] if path in overlays else [outputs[path]]
        image = read_whole(part)
        with contextlib.ExitStack() as locks:
            for out in wanted:
                locks.enter_context(lock_output(out))
            missing = _still_missing(wanted, identity, arguments.overwrite)
            if not missing:
                print(f"{printable(outputs[path])}: already done", flush=True)
                return
            mask = decide(segment(image), **kept)
            for out in missing:
                with atomic_path(out) as temporary:
                    write_image(temporary, stored(mask) if out == outputs[path] else draw(image, mask))
                    note_finished(out, temporary, identity)

    return work


def _masks_of(model) -> tuple[Callable, Callable, Callable]:
    """What makes a mask of the prediction of a model, what stores it, and what draws it over the image."""
    from ..course.plots import PIL_GREEN, class_overlay, overlay
    from ..models.inputs import classes_of
    from ..scoring.classes import find_classes
    from ..scoring.foreground import find_foreground

    classes = classes_of(model)
    if classes is None:
        return find_foreground, lambda mask: mask, partial(overlay, color=PIL_GREEN)
    return find_classes, classes.stored, partial(class_overlay, classes=classes)


def _still_missing(wanted: list[Path], identity: dict, overwrite: bool) -> list[Path]:
    """Of some results, those that the same command has not finished before.

    Raises:
        UserError: there is another file of that name.
    """
    if overwrite:
        return wanted
    missing = [out for out in wanted if find_finished(out, identity) is None]
    for out in missing:
        if os.path.lexists(out):
            remedy = "Choose another folder, or replace it with --overwrite"
            raise UserError(out, "exists already, and this command has not made it", remedy)
    return missing
