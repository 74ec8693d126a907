"""The command `score`: scores of a folder of masks or label images against another one; no model is needed."""

import os
from pathlib import Path

from ..base.files import UserError, write_csv
from ..base.paths import Output, check_paths
from ..base.text import printable
from ..settings.command_options import CommandSetting
from ..settings.parameters import Parameters
from ..settings.schema import add_option
from .console import print_table
from .options import add_command


def add(commands) -> None:
    command = add_command(commands, "score", "score a folder of masks or label images against another one")
    command.add_argument("predicted", type=Path, help="folder of masks or label images")
    command.add_argument("reference", type=Path, help="folder of masks or label images, or a data folder")
    command.add_argument("--out", type=Path, help="table of every image; a second one, <name>_summary.csv, sums it up")
    command.add_argument("--kinds", type=Path, help="table stem,kind; by default kinds.csv of the data folder, if any")
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
    from ..data.kinds import read_kinds
    from ..scoring.folders import data_folder_of, image_rows, pair_files, score_files, summary_rows

    thresholds = sorted(set(arguments.thresholds))
    table = data_folder_of(arguments.reference) / "kinds.csv"
    kinds_file = arguments.kinds or (table if table.exists() else None)
    outputs = _outputs(arguments, kinds_file)
    pairs = pair_files(arguments.predicted, arguments.reference, arguments.split)
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


def _outputs(arguments, kinds_file: Path | None) -> list[Path]:
    """The tables to write, if any; refuses them where something is read, or is there already."""
    out = arguments.out
    if out is None:
        return []
    if out.suffix.lower() != ".csv":
        raise UserError(out, "is not the name of a table", "Give a name that ends in .csv")
    outputs = [out, out.with_name(f"{out.stem}_summary.csv")]
    inputs = [arguments.predicted, arguments.reference, *([kinds_file] if kinds_file else [])]
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
