"""The appendices, which no report executes: their cells run without a run folder, and their claims hold."""

import nbformat
import papermill

from tiledseg_utils.course import plots, report


def test_the_intervals_of_the_appendix_are_those_that_its_cells_compute(monkeypatch, capsys):
    claims = []
    monkeypatch.setattr(plots, "Claim", lambda sentence, holds: claims.append((sentence, holds)))
    notebook = nbformat.read(report.NOTEBOOK_FOLDER / "appendix_what_each_choice_buys.ipynb", as_version=4)
    space = {"display": lambda shown: None}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and len(cell.source.splitlines()) < 25
            exec(cell.source, space)
    assert len(claims) == 3 and all(holds for _, holds in claims)
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
