"""A notebook is done if what it wrote is still there; papermill is replaced by something that takes no time."""

import errno
import json
import shutil
from pathlib import Path

import nbformat
import pytest

from tests.course.test_report import write_notebook
from tiledseg_utils.base.files import UserError, read_json
from tiledseg_utils.course import report, steps

WRITES = {
    "01_data_and_tiling": {
        "data/images/a.png": "image",
        "added/masks/b.png": "mask",
        "tiles/manifest.csv": "tile",
        "tiles/train/images/t.png": "pixels",
        "results/01_data.json": "{}",
        "figures/01_images.png": "picture",
        "figures/01_images.json": '{"caption": "c"}',
    },
    "02_augmentation": {"results/02_augmentation.json": "{}", "figures/02_grid.png": "picture"},
    "03_unet_training": {
        "training/epoch_001.keras": "checkpoint",
        "training/state.json": "{}",
        "training/history.csv": "epoch",
        "training/preview/001.png": "preview",
        "model.keras": "model",
        "results/03_training.json": '{"steps": 1}',
    },
    "04_evaluation": {"results/04_scores.csv": "stem", "results/09_trainings/first.csv": "not of this notebook"},
}
NAMES = list(WRITES)


@pytest.fixture
def course(tmp_path, monkeypatch):
    """Four notebooks, a run folder, and the list of those that have run. What is drawn already is not drawn again."""
    folder, run, ran = tmp_path / "course", tmp_path / "run", []
    folder.mkdir()
    for name in NAMES:
        write_notebook(folder / f"{name}.ipynb")

    def execute_notebook(source, partial, *arguments, **more):
        ran.append(source.stem)
        for name, content in WRITES[source.stem].items():
            path = run / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not (name.startswith(steps.DRAWN) and path.exists()):
                path.write_text(content)
        result = nbformat.read(source, as_version=4)
        nbformat.write(result, partial)
        return result

    monkeypatch.setattr(report, "NOTEBOOK_FOLDER", folder)
    monkeypatch.setattr(report, "check_run", lambda run: None)
    monkeypatch.setattr(report.papermill, "execute_notebook", execute_notebook)
    return run, ran


def run_all(course):
    """Run those notebooks that are not done, and return their numbers."""
    run, ran = course
    ran.clear()
    for path in report.notebooks():
        report.execute(path, run, {})
    return [int(name[:2]) for name in ran]


def cut(path):
    path.write_bytes(path.read_bytes()[:2])


def same_length(path):
    path.write_bytes(b"#" * path.stat().st_size)


def empty(path):
    path.write_bytes(b"")


LIST = "notebooks/02_augmentation.outputs.json"
DAMAGE = [
    # what is damaged, how, which notebooks run again, and what is said
    ("figures/01_images.png", Path.unlink, [1], "figures/01_images.png is gone"),
    ("figures/01_images.png", cut, [1], "figures/01_images.png has changed"),
    ("figures/01_images.json", cut, [1], "figures/01_images.json has changed"),
    ("tiles", shutil.rmtree, [1], "tiles/manifest.csv is gone"),
    ("tiles/manifest.csv", cut, [1], "tiles/manifest.csv has changed"),
    ("tiles/train/images/t.png", same_length, [1], "tiles/train/images/t.png has changed"),
    ("data/images/a.png", Path.unlink, [1], "data/images/a.png is gone"),
    ("results/01_data.json", empty, [1], "results/01_data.json has changed"),
    ("results/02_augmentation.json", Path.unlink, [2], "results/02_augmentation.json is gone"),
    ("model.keras", Path.unlink, [3], "model.keras is gone"),
    ("model.keras", same_length, [3], "model.keras has changed"),
    ("training/preview/001.png", Path.unlink, [3], "training/preview/001.png is gone"),
    ("training/history.csv", cut, [3], "training/history.csv has changed"),
    ("results/03_training.json", cut, [3], "results/03_training.json has changed"),
    ("notebooks/03_unet_training.ipynb", cut, [3], "notebooks/03_unet_training.ipynb has changed"),
    ("notebooks/03_unet_training.ipynb", Path.unlink, [3], "notebooks/03_unet_training.ipynb is gone"),
    ("results/04_scores.csv", Path.unlink, [4], "results/04_scores.csv is gone"),
    ("training/epoch_001.keras", Path.unlink, [], ""),  # The model is there, and nobody goes on with the training.
    ("training/state.json", cut, [], ""),
    ("results/09_trainings/first.csv", Path.unlink, [], ""),
]


@pytest.mark.parametrize(("name", "how", "again", "said"), DAMAGE)
def test_a_notebook_whose_output_is_damaged_runs_again(course, capsys, name, how, again, said):
    assert run_all(course) == [1, 2, 3, 4]
    assert run_all(course) == []
    capsys.readouterr()
    how(course[0] / name)
    assert run_all(course) == again
    output = capsys.readouterr().out
    assert output.count("already done") == 4 - len(again)
    assert said in output and output.count("runs again") == len(again)
    assert run_all(course) == []


LISTS = ["", "{", "[]", "null", "-1", "{}", '{"cost": {}, "outputs": {}}', '{"cost": 5, "outputs": []}']
COST = '{"cost": {"seconds": 1, "peak_mib": 1}, "outputs": '
LISTS += [COST + entries for entries in ("{}}", '{"a": 5}}', '{"a": [1]}}', '{"a": ["x", "y"]}}', '{"a": null}}')]


@pytest.mark.parametrize("content", LISTS)
def test_a_notebook_whose_list_of_outputs_is_damaged_runs_again(course, capsys, content):
    run_all(course)
    (course[0] / LIST).write_text(content)
    assert run_all(course)[0] == 2  # And those behind it, as nobody knows what it left before.
    assert "02_augmentation: runs again, because" in capsys.readouterr().out
    assert run_all(course) == []


def test_without_its_list_a_notebook_is_not_done(course, capsys):
    run_all(course)
    (course[0] / LIST).unlink()
    assert run_all(course) == [2, 3, 4]
    assert "02_augmentation: runs again, because its list of outputs is missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "again"),
    [
        ("01_data_and_tiling", {"tiles/manifest.csv": "other tiles"}, [1, 2, 3, 4]),
        ("01_data_and_tiling", {"tiles/more.png": "one more"}, [1, 2, 3, 4]),
        ("01_data_and_tiling", {"figures/01_images.png": "other figure"}, [1]),
        ("03_unet_training", {"model.keras": "another model"}, [3, 4]),
        ("03_unet_training", {"results/03_training.json": "other seconds"}, [3]),
    ],
)
def test_those_behind_run_again_if_something_else_is_handed_on(course, capsys, monkeypatch, name, content, again):
    run_all(course)
    (course[0] / "notebooks" / f"{name}.ipynb").unlink()
    monkeypatch.setitem(WRITES, name, WRITES[name] | content)
    assert run_all(course) == again
    assert capsys.readouterr().out.count(f"runs again, because {name} has handed on something else") == len(again) - 1
    assert run_all(course) == []


@pytest.mark.parametrize("name", ["data/images/a.png", "added/masks/b.png"])
def test_a_drawn_image_that_has_changed_is_neither_kept_nor_replaced(course, name):
    run_all(course)
    path = course[0] / name
    path.write_text("corrected by hand")
    with pytest.raises(
        UserError, match=f"{name}: is not what 01_data_and_tiling drew. Delete it, and it is drawn again"
    ):
        run_all(course)
    assert path.read_text() == "corrected by hand"
    path.unlink()
    assert run_all(course) == [1]
    assert path.read_text() == WRITES["01_data_and_tiling"][name]


def test_every_entry_of_the_list_is_below_the_run_folder_and_names_the_notebook_itself(course):
    run_all(course)
    listed = read_json(course[0] / "notebooks" / "03_unet_training.outputs.json")["outputs"]
    assert sorted(listed) == [
        "model.keras",
        "notebooks/03_unet_training.ipynb",
        "results/03_training.json",
        "training/history.csv",
        "training/preview/001.png",
    ]
    assert listed["model.keras"][0] == len("model")


def test_a_notebook_under_which_the_data_changed_is_not_done(course, monkeypatch):
    def check_run(run):
        raise UserError("data", "the data have changed", "Restore them")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="the data have changed"):
        patch.setattr(report, "check_run", check_run)
        run_all(course)
    assert run_all(course) == [1, 2, 3, 4]


def test_a_notebook_that_was_killed_before_its_list_was_written_runs_again(course, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(report, "enter", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        run_all(course)
    assert (course[0] / "notebooks" / "01_data_and_tiling.ipynb").exists()
    assert run_all(course) == [1, 2, 3, 4]


class FullDisk:
    """Lets so many calls of a function pass, and has no space for the next one."""

    def __init__(self, function, passes: int):
        self.function, self.passes = function, passes

    def __call__(self, *arguments, **more):
        if self.passes == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.passes -= 1
        return self.function(*arguments, **more)


@pytest.mark.parametrize(
    ("owner", "name", "passes", "file"),
    [
        (report.papermill, "execute_notebook", 0, "01_data_and_tiling.unfinished.ipynb"),
        (report.papermill, "execute_notebook", 2, "03_unet_training.unfinished.ipynb"),
        (report.nbformat, "write", 1, "01_data_and_tiling.ipynb"),  # The first is papermill's.
        (report.nbformat, "write", 3, "02_augmentation.ipynb"),
    ],
)
def test_a_full_disk_is_told_with_the_file_and_the_same_command_goes_on(course, monkeypatch, owner, name, passes, file):
    with monkeypatch.context() as patch, pytest.raises(UserError) as told:
        patch.setattr(owner, name, FullDisk(getattr(owner, name), passes))
        run_all(course)
    assert Path(told.value.path).name == file
    assert told.value.problem == "cannot be written (No space left on device)"
    assert "Check permissions and disk space" in told.value.remedy
    run_all(course)
    assert run_all(course) == []
    assert json.loads((course[0] / LIST).read_text())["outputs"]
