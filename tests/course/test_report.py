import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import nbformat
import psutil
import pytest
import yaml

from tiledseg_utils.base.files import UserError, read_json, write_csv
from tiledseg_utils.base.paths import PACKAGE
from tiledseg_utils.course import machine, report
from tiledseg_utils.course.kernel import remove_left_behind
from tiledseg_utils.course.run_comparison import flattened
from tiledseg_utils.settings.architectures import ModelSettings
from tiledseg_utils.settings.schema import fields_of
from tiledseg_utils.tiles.augmentation import Augmentation

SIX_OTHERS = fields_of(ModelSettings).keys() - {"unet"}


def preset_file(tmp_path, **changes):
    parameters = {**report.read_preset("smoke"), **changes}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(parameters))
    return str(path)


@pytest.mark.parametrize("name", ["smoke", "quick", "standard", "general", "nuclei", "original", "sibling"])
def test_every_preset_is_valid(name):
    parameters = report.read_preset(name)
    assert parameters.pop("description")
    report.check_parameters(parameters)


def test_the_preset_original_is_the_published_configuration():
    parameters = report.read_preset("original")
    assert parameters["model_settings"]["unet"] == {
        "base_filters": 16,
        "levels": 8,
        "first_kernel": 7,
        "dropout": 0.05,
        "dilation": 1,
        "normalization": "none",
        "color_space": "hsv",
    }
    # tests/tiles/test_augmentation.py looks at the values of its augmentation; what it leaves out has the defaults.
    augmentation, others = Augmentation(**parameters["augmentation"]), {"quarter_turn", "rotation_angles"}
    changed = {name for name, value in asdict(augmentation).items() if value != getattr(Augmentation(), name)}
    assert changed == {
        "hflip",
        "vflip",
        "rotation",
        "scale",
        "scale_range",
        "shear",
        "elastic",
        "distortion",
    } | others | {"barrel", "lens_centres"}


def test_the_preset_sibling_differs_from_original_as_the_two_experiments_did():
    original, sibling = (flattened(report.read_preset(name)) for name in ("original", "sibling"))
    changed = {name for name in original.keys() & sibling.keys() if original[name] != sibling[name]}
    chances = ("hflip", "vflip", "quarter_turn", "rotation", "scale", "shear", "elastic", "distortion", "barrel")
    assert changed - {f"augmentation.{name}" for name in chances} == {
        "description",
        *(f"generated_images.{split}" for split in ("train", "valid", "test")),
        *("training.steps_per_epoch", "training.learning_rate"),
    }
    assert (sibling["training.steps_per_epoch"], sibling["training.learning_rate"]) == (200, 7e-5)
    only = {name: value for name, value in sibling.items() if name not in original}
    assert only == {"augmentation.distortion_sizes": [0.02, 0.03], "model_settings.unet.prior": 0.5}
    gone = {name for name in original if name not in sibling and name.split(".")[1] not in SIX_OTHERS}
    assert gone == {"augmentation.distortion_size", "model_settings.unet.color_space"}  # It learnt from RGB.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            r"preset nosuch: is not known\. Choose one of general, nuclei, original, quick, sibling, smears, smoke",
        ),
        ("a: [1", "is not valid YAML"),
        ("- 1\n- 2", "does not hold names and values"),
    ],
)
def test_unusable_presets(tmp_path, content, message):
    name = "nosuch"
    if content is not None:
        (tmp_path / "own.yaml").write_text(content)
        name = str(tmp_path / "own.yaml")
    with pytest.raises(UserError, match=message):
        report.read_preset(name)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"treshold": 0.5}, r"treshold: is not known\. Did you mean threshold\? Valid are .*run_dir"),
        ({"threshold": "half"}, r"threshold: 'half' is text\. Give a number from 0 to 1"),
        ({"folds": 1}, r"folds: 1 is out of range\. Give 0 or a whole number from 2 to 1000"),
        ({"folds": 3, "fold": 4}, r"fold: 4 is out of range\. Give 1 to 3, the folds"),
        ({"seed": 1.5}, "seed: 1.5 is a decimal number. Give a whole number"),
        ({"min_area": -1}, r"min_area: -1 is out of range\. Give a whole number from 0"),
        ({"min_confidence": 70.0}, r"min_confidence: 70\.0 is out of range\. Give a number from 0 to 1"),
        ({"scales": ["half"]}, r"scales: 'half' is text\. Give a list, each a number from 0\.1 to 4"),
        ({"scales": [1, 0]}, r"scales: 0 is out of range"),
        ({"model": "unett"}, "Did you mean unet"),
        ({"models": ["unet", "swin"]}, "models: 'swin' is not known. Did you mean swin_unet"),
        ({"model_settings": {"levels": 5}}, r"model_settings\.levels: is not known\. Valid are unet, attention_unet"),
        ({"model_settings": {"unet": {"level": 5}}}, "Did you mean levels"),
        ({"model_settings": {"unet": 5}}, "model_settings.unet: 5 is a whole number. Give names with values"),
        ({"comparison": {"epoch": 5}}, r"comparison\.epoch: is not known\. Did you mean epochs"),
        ({"training": {"epoch": 5}}, "Did you mean epochs"),
        ({"training": {"loss": "mse"}}, "training.loss: 'mse' is not known. Give one of bce_dice"),
        ({"tiles": {"tile_size": 256.0}}, "tiles.tile_size: 256.0 is a decimal number"),
        ({"augmentation": {"hflip": 2}}, "augmentation.hflip"),
        (
            {"generated_images": {"train": 3, "test": 1}},
            "generated_images.valid: is missing. Give a whole number from 1",
        ),
        ({"added_images": -1}, "added_images: -1 is out of range"),
        ({"generated_images": {"train": 3, "tests": 1}}, "Did you mean test"),
        ({"prediction": {"overlapp": 1}}, r"prediction\.overlapp: is not known\. Did you mean overlap\?"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(parameters, message):
    with pytest.raises(UserError, match=message):
        report.check_parameters(parameters)


def test_a_wrong_preset_makes_no_run_folder(tmp_path):
    with pytest.raises(UserError, match="Did you mean threshold"):
        report.make_report(tmp_path / "run", preset_file(tmp_path, treshold=0.5))
    assert not (tmp_path / "run").exists()


def test_a_split_without_images_is_refused(data_folder, tmp_path):
    (tmp_path / "data").mkdir()
    for part in ("images", "masks"):
        (tmp_path / "data" / part).symlink_to(data_folder / part)
    stems = sorted(path.stem for path in (data_folder / "images").iterdir())
    write_csv(tmp_path / "data" / "split.csv", [{"stem": stem, "split": "train"} for stem in stems])
    with pytest.raises(UserError, match=r"split\.csv: gives no image to valid"):
        report.make_report(tmp_path / "run", "smoke", tmp_path / "data")


def test_run_folders(tmp_path):
    run = tmp_path / "run"
    report.prepare_run(run, {"seed": 1}, overwrite=False)
    report.prepare_run(run, {"seed": 1}, overwrite=False)  # goes on
    with pytest.raises(UserError, match="unfinished run with other settings"):
        report.prepare_run(run, {"seed": 2}, overwrite=False)
    (run / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match="finished run"):
        report.prepare_run(run, {"seed": 1}, overwrite=False)
    report.prepare_run(run, {"seed": 2}, overwrite=True)
    assert read_json(run / "request.json") == {"seed": 2} and not (run / "metrics.json").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_content_is_never_touched(tmp_path, overwrite):
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(UserError, match="is a folder with other content"):
        report.prepare_run(tmp_path, {}, overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unwritable_place_is_an_error_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Check permissions and disk space"):
        report.prepare_run(tmp_path / "file" / "run", {}, overwrite=False)


def write_notebook(path, *cells):
    parameters = nbformat.v4.new_code_cell('run_dir: str = ""', metadata={"tags": ["parameters"]})
    cells = [parameters, *map(nbformat.v4.new_code_cell, cells)]
    metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of one notebook that the test writes, and a run folder."""
    monkeypatch.setattr(report, "NOTEBOOK_FOLDER", tmp_path / "course")
    (tmp_path / "course").mkdir()
    return tmp_path / "course" / "01_a.ipynb", tmp_path / "run"


def test_an_executed_notebook_is_kept_and_not_repeated(course, capfd):
    path, run = course
    write_notebook(path, "print('hello from', run_dir)")
    cost = report.execute(path, run, {"run_dir": "here", "other": 1})
    assert cost["seconds"] > 0 and cost["peak_mib"] > 10
    assert "hello from here" in capfd.readouterr().out
    assert report.execute(path, run, {}) == cost
    assert "already done" in capfd.readouterr().out


FAILURES = {
    "from tiledseg_utils.base.files import UserError\nraise UserError('a.png', 'is bad', 'Mend it')": (
        r"01_a: a\.png: is bad\. Mend it\. The notebook up to the error"
    ),
    "1 / 0": r"01_a: ZeroDivisionError: division by zero\. The notebook up to the error is .*unfinished",
}


@pytest.mark.parametrize(("code", "message"), FAILURES.items(), ids=["for people", "for programmers"])
def test_a_failing_notebook_says_why_and_where(course, code, message):
    path, run = course
    write_notebook(path, code)
    with pytest.raises(UserError, match=message):
        report.execute(path, run, {})
    assert not (run / "notebooks" / "01_a.ipynb").exists()
    assert (run / "notebooks" / "01_a.unfinished.ipynb").exists()


def test_what_a_killed_report_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in (f"{ended.pid}-x", f"{os.getpid()}-x", "mine-x"):
        (tmp_path / f"tiledseg-kernel-{name}").mkdir()
    remove_left_behind()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"tiledseg-kernel-{os.getpid()}-x", "tiledseg-kernel-mine-x"}


def test_a_kernel_that_dies_is_told(course):
    path, run = course
    write_notebook(path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(UserError, match=r"01_a: its process ended early \(Kernel died\)\. Most often memory ran out"):
        report.execute(path, run, {})


def test_no_notebooks(course):
    with pytest.raises(UserError, match="Install the package once more, from a whole clone"):
        report.notebooks()


def test_outside_a_clone_the_commit_is_unknown(course):
    assert machine.git_commit(report.NOTEBOOK_FOLDER) == "unknown"
    # An installed package has its version, whatever clone its environment lies in.
    assert machine.git_commit(PACKAGE / "notebooks").startswith("installed package, version ")


INTERRUPTED = """
import signal
import sys
from pathlib import Path
from tiledseg_utils import __main__
from tiledseg_utils.commands import report as command
from tiledseg_utils.course import report
report.NOTEBOOK_FOLDER = Path(sys.argv[1])
command.report = lambda arguments: report.execute(report.notebooks()[0], Path(sys.argv[2]), {})
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets background jobs ignore it
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this one
sys.exit(__main__.main(["report"]))
"""


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ([signal.SIGINT], 130),
        ([signal.SIGINT, signal.SIGINT], 130),
        ([signal.SIGTERM], 143),
        ([signal.SIGHUP], 129),
        ([signal.SIGHUP, signal.SIGTERM, signal.SIGINT], 129),
        ([signal.SIGKILL], -9),
    ],
    ids=lambda value: str(value),
)
def test_whatever_ends_a_report_leaves_no_kernel_behind(course, tmp_path, signals, code):
    path, run = course
    write_notebook(
        path,
        f"import os, time, pathlib\npathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))",
        "time.sleep(600)",
    )
    command = [sys.executable, "-c", INTERRUPTED, path.parent, run]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300  # only so that a hang ends
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    time.sleep(0.5)
    for number in signals:
        process.send_signal(number)
        time.sleep(0.2)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == code, stderr
    said = "interrupted; give the same command again to do the rest; with --overwrite, it starts from the beginning\n"
    assert stderr == ("" if code == -9 else said)
    assert not (run / "notebooks" / "01_a.ipynb").exists()
    kernel = int((tmp_path / "pid").read_text())
    while psutil.pid_exists(kernel) and psutil.Process(kernel).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.1)
