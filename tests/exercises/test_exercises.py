"""The mechanism: what a check tells and returns, and what the learner's edition looks like."""

import contextlib

import nbformat
import pytest

from tiledseg_utils.base.files import UserError
from tiledseg_utils.course import edition
from tiledseg_utils.course.exercises import NOT_DONE, Exercise, Trial, result_of, same

DOUBLE = Exercise(
    "0.0 Double",
    lambda x: 2 * x,
    (
        Trial(lambda answer: same(result_of(answer, 1), 2), "What is twice 1?"),
        Trial(lambda answer: same(result_of(answer, 0), 0), "Try 0."),
    ),
)


def stub(x): ...


def stops(x):
    raise KeyError("x")


@pytest.mark.parametrize(
    ("answer", "passed", "message"),
    [
        (lambda x: x + x, True, "Right."),
        (lambda x: 3 * x, False, "What is twice 1?"),
        (lambda x: 2 if x else 1, False, "Try 0."),
        (stops, False, "What is twice 1? (While this was tried, your code stopped with KeyError ('x').)"),
        (7, False, "What is twice 1? (While this was tried, your code stopped with TypeError ('int' object is not"),
        (stub, False, NOT_DONE),
        (..., False, NOT_DONE),
        (None, False, NOT_DONE),
    ],
)
def test_the_first_thing_wrong_gets_its_hint_and_the_lesson_goes_on(answer, passed, message, capsys):
    verdict = DOUBLE.judge(answer)
    assert verdict.passed == passed and verdict.message.startswith(message)
    goes_on_with = DOUBLE(answer)
    assert goes_on_with is (answer if passed else DOUBLE.solution)
    assert ("✓" if passed else "✗") in capsys.readouterr().out


def test_what_a_learner_wrote_is_shown_as_text():
    def hostile(x):
        raise ValueError("<img src=x onerror=alert(1)> $x$ \x1b[31m")

    shown = DOUBLE.judge(hostile)._repr_markdown_()
    assert "<img" not in shown and "$" not in shown and "\x1b" not in shown


SOURCE = """def double(x):
    # BEGIN SOLUTION
    twice = x + x
    return twice
    # END SOLUTION"""

VALUE = """# How much is it?
# BEGIN SOLUTION
amount = 4
# END SOLUTION"""


def test_a_stub_takes_the_place_of_each_solution():
    assert edition.stub_of(SOURCE) == "def double(x):\n    ...  # your answer"
    assert edition.stub_of(VALUE) == "# How much is it?\namount = ...  # your answer"
    assert edition.stub_of(f"{SOURCE}\n\n\n{VALUE}").count("your answer") == 2
    assert edition.stub_of("a = 1") == "a = 1"


def test_the_learners_edition_folds_the_solution_away_behind_its_check(tmp_path):
    cells = [
        nbformat.v4.new_code_cell(source, id=name)
        for name, source in {"a": SOURCE, "b": "double = check_double(double)", "c": "print(double(2))"}.items()
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    made = edition.learners_edition(notebook)
    nbformat.validate(made)
    assert [cell.cell_type for cell in made.cells] == ["code", "code", "markdown", "code"]
    assert "twice" not in made.cells[0].source and "twice = x + x" in made.cells[2].source
    assert "BEGIN" not in made.cells[2].source and made.cells[2].source.startswith("<details>")
    assert notebook.cells[0].source == SOURCE


def test_work_of_a_learner_is_never_replaced(tmp_path):
    assert edition.write_edition(tmp_path)
    assert (tmp_path / "glossary.md").exists()  # which the lessons link to
    worked = sorted(tmp_path.glob("*.ipynb"))[0]
    worked.write_text("mine")
    assert not edition.write_edition(tmp_path) and worked.read_text() == "mine"


class Lab(contextlib.nullcontext):
    """Stands in for the process of JupyterLab: the first Ctrl-C has it ask, then it ends with 3."""

    def __init__(self, command):
        super().__init__(self)
        self.command, self.answers, self.returncode = command, [KeyboardInterrupt, None], None
        self.started.append(self)

    def poll(self):
        return self.returncode

    def wait(self):
        if answer := self.answers.pop(0):
            raise answer
        self.returncode = 3


def test_jupyterlab_opens_with_the_first_notebook_and_outlives_ctrl_c(tmp_path, monkeypatch):
    monkeypatch.setattr(Lab, "started", [], raising=False)
    monkeypatch.setattr(edition.subprocess, "Popen", Lab)
    monkeypatch.setattr(edition.os, "geteuid", lambda: 0, raising=False)  # as in most containers
    assert edition.open_lab(tmp_path, ["--ip=0.0.0.0", "--no-browser"]) == 3
    (command,) = (lab.command for lab in Lab.started)
    first = str(edition.LAB / "00_start_here.ipynb")
    assert command[1:6] == ["-m", "jupyterlab", first, "--ServerApp.root_dir", str(tmp_path)]
    assert command[6:] == ["--allow-root", "--ip=0.0.0.0", "--no-browser"]


def test_without_jupyterlab_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(edition.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'JupyterLab: is not installed\. .* pip install "\.\[notebooks\]"'):
        edition.open_lab(tmp_path)
    assert not list(tmp_path.iterdir())
