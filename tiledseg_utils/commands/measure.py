"""The command `measure`: from label images of any program to a table of nuclei, and files for other programs."""

import contextlib
from pathlib import Path

from ..base.files import UserError, hash_file
from ..base.finished import find_finished
from ..settings.command_options import CommandSetting
from ..settings.schema import add_option
from .batch import check_outputs, expand_images
from .exports import Exports, add_export_options
from .options import add_command


def add(commands) -> None:
    command = add_command(commands, "measure", "measure the nuclei of label images, whatever program made them")
    about = "label images, 0 = background and a number for each nucleus; folders of them, or patterns"
    command.add_argument("images", type=Path, nargs="+", metavar="labels", help=about)
    command.add_argument("--out", type=Path, required=True, help="folder for <stem>.csv, the table of each image")
    about = (
        "folder with the images themselves, of the same stems, to measure how bright nuclei are and to draw overlays"
    )
    command.add_argument("--pictures", type=Path, metavar="FOLDER", help=about)
    command.add_argument("--components", action="store_true", help="take the connected pieces of a mask for its nuclei")
    add_option(command, CommandSetting, "pixel_size")
    add_export_options(command)
    command.add_argument("--overwrite", action="store_true", help="replace results that are there")
    command.set_defaults(function=measure, model=None)


def measure(arguments) -> None:
    """Measure label images one by one; what this command finished before is left as it is."""
    from ..data.pictures import ImagePart
    from ..scoring.nucleus_tables import check_absent, write_nuclei

    if not arguments.table:
        raise UserError("--table", "is not given", "Give --table FILE.csv, for the nuclei of all images")
    if arguments.overlay and not arguments.pictures:
        raise UserError("--overlay", "shows nuclei in their images", "Give the folder of these with --pictures")
    arguments.images = expand_images(arguments.images, arguments.out)
    pictures = _list_pictures(arguments.pictures) if arguments.pictures else {}
    exports = Exports(arguments, {path: path for path in arguments.images})
    check_outputs(arguments, exports.outputs())
    exports.check()

    def work(path: Path) -> dict:
        picture = _picture_of(path, pictures, arguments.pictures)
        about = exports.about(path, [ImagePart(path, pixel_size=arguments.pixel_size), *filter(None, [picture])])
        identity = {"labels": hash_file(path), "picture": hash_file(picture) if picture else None}
        identity |= {"pixel_size": about["pixel_size"], "components": arguments.components}
        with _open_labels(path, arguments.components) as labels:
            if arguments.overwrite or find_finished(about["table"], identity) is None:
                if not arguments.overwrite:
                    check_absent(about["table"], identity)
                table = _measure_rows(path, labels, picture, about["pixel_size"])
                write_nuclei(about["table"], table, path.name, identity, {"nuclei": len(table)})
            exports.write(path, picture, labels)
        return {"labels": path.name, "nuclei": find_finished(about["table"], identity)["nuclei"]}

    exports.run(work)


def _list_pictures(folder: Path) -> dict[str, Path]:
    """The images of a folder by stem.

    Raises:
        UserError: it cannot be read, or holds two images of one stem, or something else.
    """
    from ..data.images import list_files
    from ..data.tables import all_in_one

    problems: list[str] = []
    files = list_files(folder, problems)
    if problems:
        raise all_in_one(folder, problems, "Keep one image of each stem there, and nothing else")
    return files


def _picture_of(path: Path, pictures: dict[str, Path], folder: Path | None) -> Path | None:
    """The image that a file of labels belongs to; None if no folder of images is given."""
    from ..data.images import MASK_ENDINGS, without_ending

    if folder is None:
        return None
    found = pictures.get(path.stem) or pictures.get(without_ending(path.stem, MASK_ENDINGS))
    if found is None:
        raise UserError(path, f"has no image of its name in {folder}", "Name both alike, or leave out --pictures")
    return found


def _open_labels(path: Path, components: bool):
    """Labels to be read by rows, (H, W) int32.

    Raises:
        UserError: the file cannot be read, or is a mask and `components` is not wanted.
    """
    from ..data.label_rows import open_labels

    labels = open_labels(path)
    if labels.is_mask and labels.count > 1 and not components:
        problem = f"is a mask: its {labels.count} pieces have the same value"
        raise UserError(path, problem, "Number the nuclei, or count pieces that do not touch with --components")
    return labels


def _measure_rows(path: Path, labels, picture: Path | None, pixel_size: float | None):
    """The table of the nuclei of labels, measured by rows in their image if there is one.

    Raises:
        UserError: the image cannot be read, or has another size than its labels.
    """
    from ..data.streaming import open_source, row_ranges
    from ..scoring.measure import CHUNK, Measurement

    measurement = Measurement(labels.shape, str(path))
    with contextlib.nullcontext() if picture is None else open_source(picture) as source:
        if source is not None and source.shape != labels.shape:
            own, other = (f"{height} x {width}" for height, width in (labels.shape, source.shape))
            problem = f"is {own} pixels (rows x columns), but its image {picture} is {other}"
            raise UserError(path, problem, "Give labels at the size of their image, never resized")
        for start, stop in row_ranges(labels.shape, CHUNK):
            measurement.add(labels.read(start, stop), source and source.read_stored(start, stop))
    return measurement.table(pixel_size)
