"""The appendices, which no report executes: their cells run, with small settings, and what must hold there holds."""

import nbformat
import papermill
import pytest

from tiledseg_utils.base.files import read_csv, read_json, write_json
from tiledseg_utils.base.paths import check_replaceable
from tiledseg_utils.course import kind_comparison, plots, report
from tiledseg_utils.data import images, provenance, synthetic
from tiledseg_utils.settings.parameters import TileSetting
from tiledseg_utils.tiles import tiling


def test_the_intervals_of_the_appendix_are_those_that_its_cells_compute(monkeypatch, capsys):
    claims = []
    monkeypatch.setattr(plots, "Claim", lambda sentence, holds: claims.append((sentence, holds)))
    notebook = nbformat.read(report.NOTEBOOK_FOLDER / "appendix_what_each_choice_buys.ipynb", as_version=4)
    space = {"display": lambda shown: None}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and len(cell.source.splitlines()) < 25
            exec(cell.source, space)
    assert len(claims) == 5 and all(holds for _, holds in claims)
    text = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    gain = space["gain"]
    for number in (gain["mean"], *gain["ci95"], space["tiled"].mean(), space["tiled"][space["unseen"]].mean()):
        assert f"{number:.3f}" in text
    assert capsys.readouterr().out.startswith("mean 0.921")
    assert "](../" not in text and ".ipynb)" not in text  # Links that would be dead in the learner's edition.


def test_scaling_out_runs_and_its_claims_hold(tmp_path):
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(
        report.NOTEBOOK_FOLDER / "appendix_scaling_out.ipynb", out, {"side": 700}, cwd=tmp_path, progress_bar=False
    )
    notebook = nbformat.read(out, as_version=4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = " ".join(output.get("data", {}).get("text/markdown", "") for output in outputs)
    assert shown.count("✔ As expected") == 2 and "✘" not in shown
    assert not [output.text for output in outputs if output.get("name") == "stderr" and "Traceback" in output.text]
    assert [path.name for path in tmp_path.iterdir()] == ["out.ipynb"]


@pytest.fixture
def run(tmp_path):
    """A run of nine generated images, as lessons 1 and 2 leave it."""
    counts, setting = {"train": 5, "valid": 1, "test": 3}, TileSetting(tile_size=64)
    synthetic.write_dataset(tmp_path / "data", 1, counts, size=256)
    splits = images.split_pairs(images.find_pairs(tmp_path / "data"), tmp_path / "data", 1)
    tiling.write_tile_set(splits, tmp_path / "tiles", setting)
    provenance.finish_run(tmp_path, tmp_path / "data", splits, provenance.hash_files(tmp_path / "data"), seed=1)
    write_json(tmp_path / "results" / "02_augmentation.json", {"hflip": 0.5})
    return tmp_path


def test_many_kinds_are_compared_and_each_way_has_its_networks(run, monkeypatch):
    claims = {}
    monkeypatch.setattr(plots, "Claim", lambda sentence, holds: claims.update({sentence: holds}))
    notebook = nbformat.read(report.NOTEBOOK_FOLDER / "appendix_many_kinds.ipynb", as_version=4)
    first, *code = (cell for cell in notebook.cells if cell.cell_type == "code")
    assert first.metadata["tags"] == ["parameters"]
    space = {"display": lambda shown: None}
    exec(first.source, space)
    space |= {
        "run_dir": str(run),
        "tiles": {"tile_size": 64},
        "model_settings": {"unet": {"base_filters": 2, "levels": 2}},
    }
    space["training"] = {"epochs": 1, "steps_per_epoch": 6, "validation_steps": 1, "batch_size": 2}
    for cell in code:
        assert len(cell.source.splitlines()) < 25 and max(map(len, cell.source.splitlines())) <= 100
        exec(cell.source, space)
    assert len(claims) == 7 and set(claims.values()) <= {True, False, None}
    assert claims["The package balances as you do by hand."]
    assert claims["The networks of kinds have 6 steps in an epoch together."]
    assert claims["Your router and the package's agree on all test images."]
    rows = read_csv(run / "many_kinds" / "scores.csv")
    assert [row["kind"] for row in rows] == ["stained", "dark", "grey"]
    assert all(0 <= float(row[way]) <= 1 for row in rows for way in kind_comparison.WAYS)
    networks = {path.parent.parent.name: read_json(path) for path in (run / "many_kinds").glob("*/training/state.json")}
    assert len(networks) == 5 and all(state["finished"] for state in networks.values())
    assert check_replaceable(run) is None  # A report may replace the run with all of it.


def test_classes_runs_and_its_claims_hold(tmp_path):
    out = tmp_path / "out.ipynb"
    small = {"generated_images": {"train": 4, "valid": 1, "test": 2}, "image_size": 256, "tiles": {"tile_size": 128}}
    small["training"] = {"epochs": 2, "steps_per_epoch": 4, "learning_rate": 0.003, "batch_size": 2, "patience": 0}
    notebook = report.NOTEBOOK_FOLDER / "appendix_classes.ipynb"
    papermill.execute_notebook(notebook, out, small, cwd=tmp_path, progress_bar=False)
    cells = nbformat.read(out, as_version=4).cells
    shown = {
        cell.id: " ".join(str(output.get("data", {}).get("text/markdown", "")) for output in cell.outputs)
        for cell in cells
        if cell.cell_type == "code"
    }
    assert sum("✔ As expected" in text for text in shown.values()) == 8
    assert not [name for name, text in shown.items() if "✘" in text]
    assert [path.name for path in tmp_path.iterdir()] == ["out.ipynb"]
