"""What every lesson begins with: its run folder, and what the lessons before it left there."""

from pathlib import Path

from ..base.files import UserError
from ..data import provenance


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
