"""What every lesson begins with: its run folder, and what the lessons before it left there."""

from pathlib import Path

from ..base.files import UserError, hash_file
from ..data import provenance
from ..data.images import Pair
from ..data.kinds import kinds_of_folder
from ..data.masks import read_either
from ..settings.augmentation import Augmentation
from ..settings.channel_rules import check_channel_augmentation


def project_folder() -> Path:
    """The top folder of the clone in which the notebook runs, or the current folder outside a clone."""
    here = Path.cwd()
    clones = (folder for folder in (here, *here.parents) if (folder / "tiledseg_utils").is_dir())
    return next((folder for folder in clones if (folder / "notebooks").is_dir()), here)


def open_run(run_dir: str) -> Path:
    """The folder of a run; a relative path counts from the top folder of the clone, wherever the notebook is."""
    return project_folder() / Path(run_dir).expanduser()


def seed_of(run: Path) -> int:
    """The seed of a run, which notebook 1 wrote down.

    Raises:
        UserError: notebook 1 has not run to its end in this run folder.
    """
    return provenance.read_run(run)["seed"]


def left_by(lesson: str, path: Path) -> Path:
    """The path of a file that an earlier lesson left.

    Args:
        lesson: name of its notebook, such as "02_augmentation".
        path: of the file.

    Raises:
        UserError: it is not there; says which notebook to run.
    """
    if not path.exists():
        raise UserError(path, f"notebook {lesson} has not run to its end in this run folder", "Run it first")
    return path


def network_of(run: Path):
    """The network that lesson 3 left in a run folder, opened for prediction of the foreground.

    Raises:
        UserError: it is not there, damaged, or learnt from images that are test images of this run, because lesson 1
            has divided the images anew since.
    """
    from ..models.inputs import images_learnt_from  # late: lessons before the third need no Keras
    from ..prediction.inference import load_model

    path = left_by("03_unet_training", run / "model.keras")
    network = load_model(path)
    learnt = images_learnt_from(network) or {}
    known = {value for images in learnt.values() for hashes in images.values() for value in hashes}
    splits = {
        name: {hash_file(pair.image): pair.stem for pair in pairs} for name, pairs in provenance.run_splits(run).items()
    }
    # A copy of a training image among the test images is a matter of the data, and would be the same in each training.
    new = splits["test"].keys() - splits["train"].keys() - splits["valid"].keys()
    seen = sorted(splits["test"][value] for value in new & known)
    if seen:
        problem = f"learnt from {len(seen)} of the test images of this run, such as {seen[0]}"
        remedy = "Notebook 01_data_and_tiling has divided them anew: run notebook 03_unet_training again"
        raise UserError(path, problem, remedy)
    return network


def check_changes(run: Path, augmentation: Augmentation) -> None:
    """Refuse changes of colours where lesson 1 has cut tiles from channels that are no colours.

    Raises:
        UserError: says which change, or that lesson 1 has not run to its end.
    """
    if provenance.channels_of_run(run):
        check_channel_augmentation(augmentation)


def require_colours(run: Path, lesson: str) -> None:
    """Refuse a run whose images are not read as RGB, for a lesson that needs red, green and blue.

    Raises:
        UserError: it is such a run, or lesson 1 has not run to its end.
    """
    if provenance.channels_of_run(run):
        problem = "learns from channels as they are stored, and this lesson shows what it shows in red, green and blue"
        raise UserError(run, problem, f"Run {lesson} in a run without channels")


def own_labels(run: Path) -> dict[str, list[Pair]]:
    """The images of a run by split, if they are the user's own and some training mask numbers its nuclei, else {}.

    Images that are not read as RGB are none of these, since the network that counts takes RGB. Masks of classes number
    no nuclei.

    Raises:
        UserError: as `provenance.run_splits`; or a mask cannot be read.
    """
    if is_drawn(run) or provenance.channels_of_run(run):
        return {}
    splits = provenance.run_splits(run)
    if any(pair.classes for pair in splits["train"]):
        return {}
    return splits if any(read_either(pair.mask).dtype != bool for pair in splits["train"]) else {}


def groups_of(run: Path) -> dict[str, str] | None:
    """The kind of each image by the kinds.csv of the user's data (columns stem, kind); None if it names none.

    Raises:
        UserError: notebook 1 has not run to its end, or as for `kinds.read_kinds`.
    """
    return None if is_drawn(run) else kinds_of_folder(Path(provenance.read_run(run)["path"]))


def is_drawn(run: Path) -> bool:
    """Whether notebook 1 drew the images of a run."""
    return Path(provenance.read_run(run)["path"]) == run.resolve() / "data"
