"""The commands `predict` and `instances`: from images to masks, probability maps and labels."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ..base.files import UserError, WriteError, atomic_path, hash_file, progress
from ..base.finished import JOURNAL, find_finished, note_finished
from ..base.locks import lock_output, lock_path
from ..base.paths import Output, check_paths
from ..base.text import printable
from ..prediction.band_writer import working_paths
from .console import print_table, say


def tiles(arguments) -> dict:
    """How to predict in tiles, of the arguments that `__main__.add_prediction_arguments` added."""
    names = ("mode", "tile_size", "overlap", "symmetries", "memory_mb")
    return {name: getattr(arguments, name) for name in names}


def predictor(model, arguments):
    """What predicts a whole image as the arguments of `__main__.add_prediction_arguments` say."""
    from ..prediction.inference import at_scales, predict_tiled

    return at_scales(functools.partial(predict_tiled, model, **tiles(arguments)), arguments.scales)


def foreground(arguments) -> dict:
    """What is foreground in a prediction, for `foreground.find_foreground`."""
    return {name: getattr(arguments, name) for name in ("threshold", "min_area", "min_confidence")}


def predict(arguments) -> None:
    """Predict images one by one; what this command finished before is left as it is, and bad images are listed last."""
    _check_options(arguments)
    kept = foreground(arguments)
    outputs = {path: arguments.out / f"{path.stem}.{arguments.format}" for path in arguments.images}
    overlays = {path: out.with_name(f"{out.stem}_overlay.png") for path, out in outputs.items() if arguments.overlay}
    what = "probability map" if arguments.probability else "mask"
    _check_outputs(arguments, outputs, overlays, what)

    from ..prediction.inference import load_model

    model = load_model(arguments.model)
    if arguments.format == "png":
        work = _predict_in_memory(model, arguments, kept, outputs, overlays)
    else:
        work = _predict_by_rows(model, arguments, outputs)
    is_new = not arguments.out.exists()
    try:
        _print_rows(_one_by_one(outputs, work))
    finally:
        if is_new:  # What has failed before it wrote anything leaves no empty folder.
            with contextlib.suppress(OSError):
                arguments.out.rmdir()
    print(f"{len(outputs)} {what}(s) in {printable(arguments.out)}")


def _check_options(arguments) -> None:
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


def _check_outputs(arguments, outputs: dict[Path, Path], overlays: dict[Path, Path], what: str) -> None:
    """Refuse to write where something is read, and two results into one file."""
    doubled = sorted({str(path) for path in arguments.images if arguments.images.count(path) > 1})
    if doubled:
        raise UserError(doubled[0], "is given more than once", "Give each image once")
    written = [Output(out, f"the {what} of {path.name}") for path, out in outputs.items()]
    written += [Output(out, f"the overlay of {path.name}") for path, out in overlays.items()]
    for path, out in outputs.items():
        hidden = [*working_paths(out), lock_path(out)]
        written += [Output(each, f"a working file for {path.name}") for each in hidden]
    written += [
        Output(lock_path(out), f"a working file for the overlay of {path.name}") for path, out in overlays.items()
    ]
    written.append(Output(arguments.out / JOURNAL, "the list of finished results"))
    check_paths([arguments.model, *arguments.images] if arguments.model else arguments.images, written)


def _predict_by_rows(model, arguments, outputs: dict[Path, Path]) -> Callable[[Path], dict]:
    """What predicts one image from file to file, and returns a row of the table."""
    from ..prediction.inference import predict_file

    threshold = None if arguments.probability else arguments.threshold
    streaming = {"threshold": threshold, "skip_contrast": arguments.skip_contrast, "overwrite": arguments.overwrite}

    def work(path: Path) -> dict:
        return {"image": path.name, **predict_file(model, path, outputs[path], **tiles(arguments), **streaming)}

    return work


def _predict_in_memory(model, arguments, kept: dict, outputs: dict[Path, Path], overlays: dict[Path, Path]) -> Callable:
    """What predicts one image in memory, writes its mask and perhaps an overlay, and returns nothing."""
    from ..course.plots import PIL_GREEN, overlay
    from ..data.pictures import read_image, write_image
    from ..prediction.inference import fingerprint
    from ..scoring.foreground import find_foreground

    segment, weights = predictor(model, arguments), fingerprint(model)

    def work(path: Path) -> None:
        settings = {**tiles(arguments), **kept, "scales": list(arguments.scales)}
        identity = {"image": hash_file(path), "model": weights, "settings": settings}
        wanted = [outputs[path], overlays[path]] if path in overlays else [outputs[path]]
        image = read_image(path)
        with contextlib.ExitStack() as locks:
            for out in wanted:
                locks.enter_context(lock_output(out))
            missing = _still_missing(wanted, identity, arguments.overwrite)
            if not missing:
                print(f"{printable(outputs[path])}: already done", flush=True)
                return
            mask = find_foreground(segment(image), **kept)
            for out in missing:
                with atomic_path(out) as temporary:
                    write_image(temporary, mask if out == outputs[path] else overlay(image, mask, PIL_GREEN))
                    note_finished(out, temporary, identity)

    return work


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


def _one_by_one(paths: Iterable[Path], work: Callable[[Path], dict | None]) -> list[dict]:
    """Do some work for each file; go on behind one that cannot be read, and list those at the end.

    Raises:
        UserError: a file could not be done; or nothing can be written any more, which ends it at once.
    """
    rows, failures = [], []
    paths = list(paths)
    for path in progress(paths, unit="image"):
        try:
            rows.append(work(path))
        except WriteError:
            for failure in failures:
                say(f"error: {failure}")
            raise
        except UserError as error:
            failures.append(error)
    if not failures:
        return [row for row in rows if row]
    if len(paths) == 1:
        raise failures[0]
    _print_rows([row for row in rows if row])
    remedy = "Mend them, and give the same command again: it does only what is missing"
    listed = "\n  ".join(["could not be done, the others are", *(str(failure).rstrip(".") for failure in failures)])
    raise UserError(f"{len(failures)} of {len(paths)} images", listed, remedy)


def _print_rows(rows: list[dict]) -> None:
    if rows:
        print_table(rows)


def label_instances(arguments) -> None:
    """Label the nuclei of images one by one; what this command finished before is left as it is."""
    outputs = {path: arguments.out / f"{path.stem}.tif" for path in arguments.images}
    _check_outputs(arguments, outputs, {}, "label image")

    from ..prediction.inference import load_model
    from ..prediction.instances import label_file

    model = load_model(arguments.model, (1, 6)) if arguments.model else None
    method = arguments.method or ("flow" if model and model.output_shape[-1] == 6 else "watershed")
    names = ("threshold", "min_area", "overwrite")
    options = {name: getattr(arguments, name) for name in names} | ({"mode": "auto"} if model else {})

    def work(path: Path) -> dict:
        out = outputs[path]
        return {"image": path.name, "nuclei": label_file(path, out, model, method, **options), "labels": out}

    _print_rows(_one_by_one(outputs, work))
