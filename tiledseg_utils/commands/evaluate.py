"""The command `evaluate`: scores of a model, told apart by whether it learnt from the images."""

from pathlib import Path

from ..base.files import UserError, progress
from ..base.paths import model_path
from ..settings.parameters import Parameters
from ..settings.schema import add_option
from .console import print_classes, print_table
from .options import add_command, add_prediction_options, foreground, predictor
from .remembered import as_its_run_did


def add(commands, defaults: dict) -> None:
    command = add_command(commands, "evaluate", "score a trained model on a data folder")
    command.add_argument("model", type=model_path, help="a model.keras of a run, or smears, the one in the package")
    command.add_argument("data", type=Path, help="folder with images/ and masks/")
    command.add_argument(
        "--split",
        choices=["unseen", "train", "valid", "test", "all"],
        default="unseen",
        help="unseen: all images from which the model did not learn, whatever their names",
    )
    add_option(command, Parameters, "seed", help="of the split, where there is no split.csv; --preset brings its own")
    add_prediction_options(command, defaults)
    command.set_defaults(function=evaluate, needs_keras=True)


def choose_pairs(arguments, pairs: list, seen: dict[str, str]) -> list:
    """The images that `evaluate` scores, of all `pairs` of a folder; `seen` as `provenance.seen_by` returns it."""
    from ..data.images import split_pairs

    split = arguments.split
    if "unknown" in seen.values():
        split = "test" if split == "unseen" else split
        what = "all images are scored" if split == "all" else f"the split {split} is scored"
        print(f"which images the model learnt from is unknown, as its file does not say: {what}")
    if split == "all":
        return pairs
    if split == "unseen":
        return unseen_pairs(arguments.data, pairs, seen)
    chosen = split_pairs(pairs, arguments.data, arguments.seed)[split]
    if not chosen:
        raise UserError(arguments.data, f"has no images in the split {split}", "Choose another --split")
    return chosen


def unseen_pairs(folder, pairs: list, seen: dict[str, str]) -> list:
    """Those of `pairs` from which the model did not learn; says how many are left out.

    Raises:
        UserError: none is left.
    """
    unseen = [pair for pair in pairs if seen[pair.stem] == "no"]
    train, valid = (list(seen.values()).count(name) for name in ("train", "valid"))
    if not unseen:
        problem = f"the model learnt from all {len(pairs)} images, so that their scores say nothing about others"
        raise UserError(folder, problem, "Give other images, or score these with --split all")
    if train or valid:
        print(f"left out of {len(pairs)} images: {train} that the model was trained on, {valid} it was chosen by")
    return unseen


def print_summary(counts: dict, what: str, way: str) -> None:
    """A line with the Dice of some images together, predicted in some way."""
    from ..scoring.pixels import summarize

    dice = summarize(counts)["dice"]
    summary = ", ".join(f"{kind} {dice[kind]:.3f}" for kind in ("mean", "median", "pooled"))
    print(f"{way} Dice of {what}: {summary}")


def _check_classes(arguments, model, classes) -> None:
    """Refuse a data folder whose classes are not those of the model."""
    from ..models.inputs import classes_of

    known = classes_of(model)
    if classes and known and classes.names != known.names:
        problem = f"lists the classes {', '.join(classes.names)}, and the model tells apart {', '.join(known.names)}"
        raise UserError(Path(arguments.data) / "classes.csv", problem, "Give the data of these classes")


def _score(predict, pairs, kept: dict, classes) -> tuple[dict, dict]:
    """Counts of the foreground of each image and, where model and data have classes, their confusion, by stem."""
    from ..data.images import read_pair
    from ..scoring.classes import confusion, find_classes
    from ..scoring.foreground import find_foreground
    from ..scoring.pixels import count_pixels

    counts, matrices = {}, {}
    for pair in pairs:
        image, reference = read_pair(pair, classes=classes is not None)
        maps = predict(image)
        found = find_foreground(maps, **kept) if maps.ndim == 2 else find_classes(maps, **kept)
        counts[pair.stem] = count_pixels(found > 0, reference > 0)
        if classes and maps.ndim == 3:
            matrices[pair.stem] = confusion(found, reference, len(classes))
    return counts, matrices


def evaluate(arguments) -> None:
    from ..data.images import find_pairs
    from ..data.provenance import seen_by
    from ..models.inputs import channels_of, images_learnt_from
    from ..prediction.inference import load_model
    from ..scoring.pixels import score_rows

    model = load_model(arguments.model, classes=True)
    channels = channels_of(model)
    pairs = find_pairs(arguments.data, channels.numbers if channels else ())
    _check_classes(arguments, model, pairs[0].classes)
    arguments = as_its_run_did(model, arguments)
    kept = foreground(arguments)
    seen = seen_by(images_learnt_from(model), pairs)
    pairs = choose_pairs(arguments, pairs, seen)
    counts, matrices = _score(predictor(model, arguments), progress(pairs, unit="image"), kept, pairs[0].classes)
    print_table([{"stem": row["stem"], "seen": seen[row["stem"]], **row} for row in score_rows(counts)])
    way = "non-tiled" if arguments.non_tiled else "tiled"
    print_summary(counts, f"{len(pairs)} image{'s' if len(pairs) > 1 else ''}", way)
    if matrices:
        print_classes(matrices, pairs[0].classes.names, arguments.seed)
    unseen = {stem: count for stem, count in counts.items() if seen[stem] == "no"}
    known = [stem for stem in counts if seen[stem] in ("train", "valid")]
    if known and unseen:
        print_summary(unseen, f"the {len(unseen)} of them that the model never saw", way)
    elif known:
        print("the model learnt from all of them: their scores say nothing about others")
