"""What `instances` and `measure` write beside labels: tables of nuclei, and files for other programs."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..base.files import UserError, WriteError, atomic_path, hash_file, hash_path
from ..base.finished import JOURNAL, find_finished, note_finished
from ..base.paths import Output, check_paths
from .batch import one_by_one
from .options import PART

ENDINGS = {
    "nuclei": (".csv", "the table of nuclei of"),
    "geojson": (".geojson", "the GeoJSON of"),
    "rois": ("_rois.zip", "the ROIs of"),
    "overlay": ("_overlay.png", "the overlay of"),
}
"""Of the files beside the labels of an image: what follows its stem, and what they are."""

CALL = ("model", "out", "format", "method", "threshold", "min_area", "flow_threshold")
CALL += ("test_time_augmentation", "one_scale", "table", "groups", "pictures", "components", *PART)
"""The options by which one call is told from another that would write other tables."""


def add_export_options(command: argparse.ArgumentParser) -> None:
    """The options of `Exports`."""
    command.add_argument(
        "--table",
        type=Path,
        metavar="FILE.csv",
        help="measure all nuclei into one table, and summaries into FILE_images.csv and FILE_groups.csv; "
        "<stem>.csv in the folder of the labels has those of one image",
    )
    command.add_argument(
        "--groups", type=Path, metavar="FILE.csv", help="the group of each image for --table: a csv with stem,group"
    )
    command.add_argument("--micrometres", action="store_true", help="refuse images whose pixel size is not known")
    command.add_argument("--geojson", action="store_true", help="also write <stem>.geojson, outlines for QuPath")
    command.add_argument("--rois", action="store_true", help="also write <stem>_rois.zip, for ImageJ's ROI Manager")
    command.add_argument(
        "--overlay", action="store_true", help="also write <stem>_overlay.png, the image with outlines and numbers"
    )


class Exports:
    """The files that `instances` and `measure` write beside the labels of each image, and the tables of all.

    Args:
        arguments: of the command, with `images` and the options of `add_export_options`.
        labels: the file of the labels by what is given in `images`.
    """

    def __init__(self, arguments: argparse.Namespace, labels: Mapping[Path, Path]):
        self._arguments, self._done, self.labels = arguments, [], labels
        kinds = [kind for kind in ("geojson", "rois", "overlay") if getattr(arguments, kind)]
        if kinds or arguments.table:
            kinds.insert(0, "nuclei")
        self.files = {
            path: {kind: arguments.out / f"{path.stem}{ENDINGS[kind][0]}" for kind in kinds}
            for path in arguments.images
        }

    def outputs(self) -> list[Output]:
        """All these files."""
        results = []
        for path, files in self.files.items():
            results += [Output(out, f"{ENDINGS[kind][1]} {path.name}") for kind, out in files.items()]
        if self._arguments.table:
            results += [Output(path, f"the table of {what}") for what, path in self._tables().items()]
            if self._arguments.table.absolute().parent != self._arguments.out.absolute():
                results.append(Output(self._arguments.table.parent / JOURNAL, "the list of finished tables"))
        return results

    def check(self) -> None:
        """Refuse options that do not go together, and tables that exist, before anything is predicted."""
        from ..data.kinds import read_kinds
        from ..scoring.nucleus_tables import check_absent

        arguments, self._groups = self._arguments, {}
        if arguments.table and arguments.table.suffix.lower() != ".csv":
            raise UserError(arguments.table, "is not the name of a table", "Give a name that ends in .csv")
        if arguments.groups and not arguments.table:
            raise UserError("--groups", "is for the summaries of --table, which is not given", "Give --table FILE.csv")
        if arguments.groups:
            check_paths([arguments.groups], self.outputs())
            self._groups = read_kinds(arguments.groups, columns=("group", "kind", "split"))
            missing = [path for path in arguments.images if path.stem not in self._groups]
            if missing:
                problem = f"has no line for {missing[0].stem}"
                raise UserError(arguments.groups, problem, "Give each image a line: stem,group")
        if arguments.table and not arguments.overwrite:
            for path in self._tables().values():
                check_absent(path, self._identity())

    def about(self, path: Path, images: Sequence) -> dict:
        """The table of one of `images`, and the size of a pixel, as the first of some files that tell it says."""
        from ..data.pixel_size import read_pixel_size, require_pixel_size

        pixel_size = next(filter(None, map(read_pixel_size, images)), None)
        if self._arguments.micrometres:
            require_pixel_size(path, pixel_size)
        return {"table": self.files[path].get("nuclei"), "pixel_size": pixel_size}

    def write(self, path: Path, picture=None, labels=None) -> None:
        """Write what is missing of the files of an image, once its labels and its table are there.

        Args:
            path: one of `images`.
            picture: the image itself, a path or an `ImagePart`, for its overlay and the place of its pixels.
            labels: of `label_rows`, if they are open already; else their file is read by rows.
        """
        files = {kind: out for kind, out in self.files[path].items() if kind != "nuclei"}
        self._done.append(path)
        if not files:
            return
        from ..data.label_rows import LabelRows
        from ..scoring.nucleus_tables import check_absent, join_nuclei

        table = self.files[path]["nuclei"]
        identity = {"labels": hash_path(self.labels[path]), "table": hash_file(table)}
        for kind, out in files.items():
            if not self._arguments.overwrite:
                if find_finished(out, identity) is not None:
                    continue
                check_absent(out, identity)
            source = LabelRows(self.labels[path]) if labels is None else labels
            with source as rows, atomic_path(out) as temporary:
                _write_kind(kind, temporary, picture, rows, join_nuclei([table]).drop(columns="file"))
                note_finished(out, temporary, identity)

    def run(self, work) -> None:
        """Do the work for each image, and write the tables of those that could be done, even if others could not."""
        try:
            one_by_one(self._arguments.images, work)
        except WriteError:
            raise
        except UserError:
            self._write_tables()
            raise
        self._write_tables()

    def _write_tables(self) -> None:
        if not self._arguments.table or not self._done:
            return
        from ..scoring.nucleus_tables import join_nuclei, summarise_groups, summarise_images, write_frame

        nuclei = join_nuclei([self.files[path]["nuclei"] for path in self._done])
        images = summarise_images(nuclei, [path.name for path in self._done], self._groups)
        tables = {"nuclei": nuclei, "images": images, "groups": summarise_groups(images)}
        for what, path in self._tables().items():
            write_frame(path, tables[what], self._identity())

    def _tables(self) -> dict[str, Path]:
        table = self._arguments.table
        names = {"nuclei": table.name, "images": f"{table.stem}_images.csv", "groups": f"{table.stem}_groups.csv"}
        return {what: table.with_name(name) for what, name in names.items()}

    def _identity(self) -> dict:
        """The same for the same call, whichever of its images could be done, so that it may replace its own tables."""
        options = {name: str(getattr(self._arguments, name, None)) for name in CALL}
        return {"call": options, "images": [str(path) for path in self._arguments.images]}


def _scale_of(picture) -> tuple[float, float]:
    """Height and width of a pixel, in pixels of the full image."""
    from ..data.pictures.part import part_of
    from ..data.streaming import open_source

    if picture is None or (part_of(picture).level == 0 and part_of(picture).mpp is None):
        return 1.0, 1.0  # Without decoding the image once more.
    with open_source(picture) as source:
        return source.scale


def _write_kind(kind: str, out: Path, picture, labels, table) -> None:
    """Write one of the files of `ENDINGS` from the labels (of `label_rows`) and the table of an image."""
    from ..scoring.exports.outlines import cut_out

    if kind == "geojson":
        from ..scoring.exports.geojson import write_geojson

        write_geojson(out, cut_out(labels.read, table), _scale_of(picture))
    elif kind == "rois":
        from ..scoring.exports.rois import write_rois

        write_rois(out, cut_out(labels.read, table), labels.shape)
    else:
        from ..data.pictures import write_image
        from ..data.streaming import open_source
        from ..scoring.exports.pictures import draw_nuclei

        with open_source(picture) as source:
            pixels = source.read_rows(0, source.shape[0])
        write_image(out, draw_nuclei(pixels, labels.read(0, labels.shape[0]), table))
