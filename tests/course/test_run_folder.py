"""A run folder that is damaged, in use, or began with other data is told; the notebooks themselves are not run here."""

import json
import shutil

import pytest

from tests.training.test_fit import train_in
from tiledseg_utils.base.files import UserError, read_json
from tiledseg_utils.base.locks import LOCK, lock_folder
from tiledseg_utils.course import report
from tiledseg_utils.data import provenance
from tiledseg_utils.data.images import hash_folder
from tiledseg_utils.data.pictures import read_image, write_image


@pytest.fixture
def data(data_folder, tmp_path):
    shutil.copytree(data_folder, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def begun(data, tmp_path, monkeypatch):
    """A run folder that was interrupted before its first notebook, and the list of what then reached the notebooks."""
    reached = []

    def run_notebooks(run, *arguments):
        assert (run / LOCK).exists()
        reached.append(run)
        return run / "report" / "index.html"

    monkeypatch.setattr(report, "run_notebooks", run_notebooks)
    report.make_report(tmp_path / "run", "smoke", data)
    reached.clear()
    return tmp_path / "run", reached


def test_the_request_holds_the_hashes_of_the_data(begun, data):
    request = read_json(begun[0] / "request.json")
    assert request["data"]["sha256"] == hash_folder(data)
    assert sorted(request["data"]["files"]) == sorted(
        [f"{part}/smear_000{number}.png" for part in ("images", "masks") for number in range(5)] + ["split.csv"]
    )
    assert not (begun[0] / LOCK).exists()


def other_image(data):
    path = data / "images" / "smear_0003.png"
    write_image(path, read_image(path)[::-1])


def without_one(data):
    for part in ("images", "masks"):
        (data / part / "smear_0004.png").unlink()
    (data / "split.csv").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_image, "images/smear_0003.png differs"),
        (lambda data: (data / "split.csv").unlink(), "split.csv is gone"),
        (without_one, "images/smear_0004.png is gone, masks/smear_0004.png is gone, split.csv is gone"),
    ],
)
def test_a_resume_with_other_data_is_refused(begun, data, change, message):
    run, reached = begun
    report.make_report(run, "smoke", data)
    change(data)
    with pytest.raises(UserError) as told:
        report.make_report(run, "smoke", data)
    assert told.value.path == str(data)
    assert told.value.problem == f"the data have changed since this run began: {message}"
    assert "Restore them, or start again" in told.value.remedy
    assert reached == [run]
    report.make_report(run, "smoke", data, overwrite=True)
    assert read_json(run / "request.json")["data"]["sha256"] == hash_folder(data)


REQUESTS = [
    (lambda text: text[:50], r"request\.json: is damaged \("),
    (lambda text: "", r"request\.json: is an empty file"),
    (lambda text: "\x00\x01", r"request\.json: is damaged \("),
    (lambda text: "[]", r"request\.json: is damaged \(it holds a list"),
    (lambda text: "null", r"request\.json: is damaged \(it holds a NoneType"),
    (lambda text: "-1", r"request\.json: is damaged \(it holds a int"),
    (lambda text: text.replace('"files": {', '"files": 5, "x": {'), r"request\.json: is damaged \(data\)"),
    (lambda text: text.replace('"data": {', '"data": -1, "x": {'), "holds an unfinished run with other settings"),
    (lambda text: text.replace('"seed": 1', '"seed": 2'), "holds an unfinished run with other settings"),
]


@pytest.mark.parametrize(("change", "message"), REQUESTS)
def test_a_damaged_request_is_told_and_replaced_if_asked(begun, data, change, message):
    run, reached = begun
    whole = (run / "request.json").read_text()
    (run / "request.json").write_text(change(whole))
    with pytest.raises(UserError, match=f"{message}.*Choose another --run, or replace it with --overwrite"):
        report.make_report(run, "smoke", data)
    assert reached == []
    report.make_report(run, "smoke", data, overwrite=True)
    assert (run / "request.json").read_text() == whole and reached == [run]
    assert not (run / LOCK).exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\x00"])
def test_damaged_metrics_do_not_make_a_run_finished(begun, data, capsys, content):
    run, reached = begun
    (run / "metrics.json").write_text(content)
    report.make_report(run, "smoke", data)
    assert reached == [run] and "it is written again" in capsys.readouterr().out


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_reports_at_once_are_refused(begun, data, overwrite):
    run, reached = begun
    with lock_folder(run), pytest.raises(UserError, match=r"run: is in use by another command \(process \d+ on "):
        report.make_report(run, "smoke", data, overwrite)
    assert reached == [] and (run / "request.json").exists()


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "null", '{"data": {}}', '{"data": {"files": 5}}', '{"data": [1]}'],
)
def test_notebook_1_alone_tells_a_damaged_request(data, tmp_path, content):
    (tmp_path / "request.json").write_text(content)
    with pytest.raises(UserError, match=r"request\.json: is damaged \(.*start again from notebook 1"):
        provenance.begin_run(tmp_path, data)


@pytest.fixture(scope="module")
def trained(tile_set, tmp_path_factory):
    run = tmp_path_factory.mktemp("trained") / "run"
    train_in(run, tile_set)
    return run


STATES = [
    (lambda state: "", "is an empty file"),
    (lambda state: "{", "is damaged"),
    (lambda state: "[]", "it holds a list"),
    (lambda state: "null", "it holds a NoneType"),
    (lambda state: json.dumps(state)[:-40], "is damaged"),
    (lambda state: state | {"epoch": -1}, "epoch -1"),
    (lambda state: state | {"epoch": 3}, r"epoch 3, best \d, 5 in its history"),
    (lambda state: state | {"epoch": "5"}, "epoch is '5'"),
    (lambda state: state | {"epoch": 5.0}, r"epoch is '5\.0'"),
    (lambda state: state | {"best_epoch": 6}, "best 6"),
    (lambda state: state | {"best_epoch": -2}, "best -2"),
    (lambda state: state | {"history": None}, "history is 'None'"),
    (lambda state: state | {"history": [1] * 5}, "0 in its history"),
    (lambda state: state | {"history": state["history"][::-1]}, "5 in its history"),
    (lambda state: state | {"history": [{"epoch": row["epoch"]} for row in state["history"]]}, "0 in its history"),
    (lambda state: state | {"counts": [None]}, "5 in its history"),
    (lambda state: state | {"finished": 1}, "finished is '1'"),
    (lambda state: {"request": state["request"]}, "epoch is missing"),
    (lambda state: state | {"request": {}}, "belongs to a training with other settings or tiles"),
]


@pytest.mark.parametrize(("change", "message"), STATES)
def test_a_damaged_state_of_a_training_is_told(trained, tile_set, change, message):
    path = trained / "training" / "state.json"
    whole = path.read_text()
    changed = change(json.loads(whole))
    try:
        path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
        with pytest.raises(UserError, match=rf"state\.json: .*{message}.*(elete .*to train anew|delete this file)"):
            train_in(trained, tile_set)
    finally:
        path.write_text(whole)


def test_other_pixels_in_the_same_tiles_are_another_training(trained, tile_set):
    path = trained / "tiles" / provenance.SOURCES
    whole = path.read_text()
    try:
        path.write_text(whole.replace('"pixels": "', '"pixels": "0', 1))
        with pytest.raises(UserError, match="belongs to a training with other settings or tiles"):
            train_in(trained, tile_set)
        for content in ("{", "[]", '{"train": 5}', '{"train": {"a": {}}, "valid": {}}'):
            path.write_text(content)
            with pytest.raises(UserError, match=r"sources\.json: is damaged .*Run notebook 01_data_and_tiling again"):
                train_in(trained, tile_set)
    finally:
        path.write_text(whole)


def test_images_that_are_links_into_the_run_are_not_lost_with_it(begun, data, tmp_path):
    run, reached = begun
    (run / "data" / "images").mkdir(parents=True)
    (data / "images" / "smear_0000.png").rename(run / "data" / "images" / "smear_0000.png")
    (data / "images" / "smear_0000.png").symlink_to(run / "data" / "images" / "smear_0000.png")
    with pytest.raises(UserError, match="which is read, and would be lost when the run is replaced"):
        report.make_report(run, "smoke", data, overwrite=True)
    assert read_image(run / "data" / "images" / "smear_0000.png").any() and not reached


def test_a_run_that_cannot_be_replaced_is_put_back(begun, data, monkeypatch):
    run, reached = begun
    (run / "model.keras").write_text("precious")

    def full_disk(path, content):
        raise UserError(path, "cannot be written (No space left on device)", "Check permissions and disk space")

    monkeypatch.setattr(report, "write_json", full_disk)
    with pytest.raises(UserError, match="No space left"):
        report.make_report(run, "smoke", data, overwrite=True)
    assert (run / "model.keras").read_text() == "precious" and (run / "request.json").exists() and not reached
    assert [path.name for path in run.parent.iterdir() if path.name.startswith(".run")] == []
