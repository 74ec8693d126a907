"""The command `score`: scores of a folder of masks or label images against another one; no model is needed."""

import os
from pathlib import Path

from ..base.files import UserError, write_csv
from ..base.paths import Output, check_paths
from ..base.text import printable
from ..settings.command_options import CommandSetting
from ..settings.parameters import Parameters
from ..settings.schema import add_option
from .console import print_classes, print_table
from .options import add_command


def add(commands) -> None:
    command = add_command(commands, "score", "score a folder of masks or label images against another one")
    command.add_argument("predicted", type=Path, help="folder of masks or label images")
    command.add_argument("reference", type=Path, help="folder of masks or label images, or a data folder")
    command.add_argument("--out", type=Path, help="table of every image; a second one, <name>_summary.csv, sums it up")
    command.add_argument("--kinds", type=Path, help="table stem,kind; by default kinds.csv of the data folder, if any")
    about = "table value,name,color: masks hold classes; by default classes.csv of the data folder, if any"
    command.add_argument("--classes", type=Path, help=about)
    command.add_argument(
        "--split", choices=["train", "valid", "test"], help="score only the images that split.csv of the data has there"
    )
    add_option(command, CommandSetting, "objects")
    add_option(command, CommandSetting, "iou_thresholds", "--thresholds")
    add_option(command, CommandSetting, "rules")
    add_option(command, Parameters, "seed", help="of the resamplings for intervals")
    command.add_argument("--overwrite", action="store_true", help="replace tables that are there")
    command.set_defaults(function=score)


def score(arguments) -> None:
    from ..data.classes import FILE, read_class_table
    from ..data.kinds import read_kinds
    from ..scoring.folders import data_folder_of, image_rows, pair_files, score_files, summary_rows

    thresholds = sorted(set(arguments.thresholds))
    data = data_folder_of(arguments.reference)
    kinds_file = arguments.kinds or _table_of(data, "kinds.csv")
    classes_file = arguments.classes or _table_of(data, FILE)
    outputs = _outputs(arguments, [table for table in (kinds_file, classes_file) if table])
    pairs = pair_files(arguments.predicted, arguments.reference, arguments.split)
    if classes_file:
        _score_classes(pairs, read_class_table(classes_file), outputs, arguments.seed)
        return
    kinds = read_kinds(kinds_file, [pair.stem for pair in pairs]) if kinds_file else {}
    scores = score_files(pairs, thresholds, arguments.rules, arguments.objects)
    summary = summary_rows(scores, thresholds, kinds, arguments.seed)
    if outputs:
        write_csv(outputs[0], image_rows(scores, thresholds, kinds))
        write_csv(outputs[1], summary)
    _print(summary, thresholds)
    if not next(iter(scores.values())).sweep and arguments.objects == "auto":
        print("both folders hold masks: pixels alone are scored; --objects components scores their pieces, too")
    if outputs:
        print(f"every image in {printable(outputs[0])}, all thresholds in {printable(outputs[1])}")


def _table_of(folder: Path, name: str) -> Path | None:
    return folder / name if (folder / name).exists() else None


def _score_classes(pairs, classes, outputs: list[Path], seed: int) -> None:
    """Score masks of classes: every class against all others, and which was taken for which."""
    from ..scoring.classes import class_counts, class_rows
    from ..scoring.folders import confuse_files

    matrices = confuse_files(pairs, classes)
    print_classes(matrices, classes.names, seed)
    if outputs:
        rows = [
            {"stem": stem, "class": name, "dice": counts.dice, "iou": counts.iou, **vars(counts)}
            for stem, matrix in matrices.items()
            for name, counts in zip(classes.names, class_counts(matrix), strict=True)
        ]
        write_csv(outputs[0], rows)
        write_csv(outputs[1], class_rows(matrices, classes.names, seed))
        print(f"every image in {printable(outputs[0])}, all classes in {printable(outputs[1])}")


def _outputs(arguments, tables: list[Path]) -> list[Path]:
    """The tables to write, if any; refuses them where something is read, or is there already."""
    out = arguments.out
    if out is None:
        return []
    if out.suffix.lower() != ".csv":
        raise UserError(out, "is not the name of a table", "Give a name that ends in .csv")
    outputs = [out, out.with_name(f"{out.stem}_summary.csv")]
    inputs = [arguments.predicted, arguments.reference, *tables]
    what = ("the scores of every image", "the summary")
    check_paths(inputs, [Output(path, words) for path, words in zip(outputs, what, strict=True)])
    for path in outputs:
        if os.path.lexists(path) and not arguments.overwrite:
            raise UserError(path, "exists already", "Choose another name, or replace it with --overwrite")
    return outputs


def _print(summary: list[dict], thresholds: list[float]) -> None:
    """Scores of each kind at the lowest threshold, then pooled scores of all images at every threshold."""
    shown = [row for row in summary if row["threshold"] in ("", thresholds[0])]
    rows = []
    for row in shown:
        name = f"{row['score']} at IoU {row['threshold']:g}" if row["threshold"] != "" else row["score"]
        line = {"kind": row["kind"], "images": row["images"], "score": name}
        for way in ("mean", "pooled"):
            low, high = row[f"{way}_low"], row[f"{way}_high"]
            line |= {way: row[way], f"95 % of {way}": "" if low is None else f"{low:.4f}-{high:.4f}"}
        rows.append(line)
    print_table(rows)
    sweep = [row for row in summary if row["kind"] == "all" and row["threshold"] != ""]
    if len(thresholds) > 1 and sweep:
        print()
        print_table(
            [
                {"IoU": f"{threshold:g}"}
                | {f"pooled {row['score']}": row["pooled"] for row in sweep if row["threshold"] == threshold}
                for threshold in thresholds
            ]
        )
