"""Exercises that check themselves: what a learner has written is tried, and the first thing wrong gets a hint.

Each lesson has a file here with its checks. In a notebook, an exercise is a cell with a solution between the lines
`# BEGIN SOLUTION` and `# END SOLUTION`, and a cell that hands it to its check:

    tile_origins = lesson_01.check_tile_origins(tile_origins)

The check shows what it found and returns what the lesson goes on with: the learner's answer if it is right, else the
solution. A lesson therefore runs to its end whatever a learner has written. `edition` makes the learner's edition, with
a stub in place of each solution.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from IPython.display import display

from ...base.text import escape_markdown, printable_lines

NOT_DONE = "Nothing here yet: replace the three dots with your answer, and run this cell again."


@dataclass(frozen=True)
class Trial:
    """One thing that an answer must do.

    Args:
        holds: called with the answer; true if it does.
        hint: what to tell a learner whose answer does not. It helps, and does not give the solution away.
    """

    holds: Callable[[Any], bool]
    hint: str


@dataclass(frozen=True)
class Verdict:
    """What a check found: whether the answer is right, and what to tell the learner. Notebooks show it in colour."""

    exercise: str
    passed: bool
    message: str

    def __str__(self) -> str:
        return f"{'✓' if self.passed else '✗'} {self.exercise}: {printable_lines(self.message)}"

    def _repr_markdown_(self) -> str:
        sign = "✅" if self.passed else "💡"
        return f"{sign} **{escape_markdown(self.exercise)}** — {escape_markdown(self.message)}"


@dataclass(frozen=True)
class Exercise:
    """A check of one exercise.

    Args:
        name: number and title, such as "1.2 Tile origins".
        solution: a right answer: a function, a number, a word.
        trials: in the order in which they are tried; the first that fails decides.
        praise: what the learner reads when all is right.
        verdicts: what the calls found so far, for tests.
    """

    name: str
    solution: Any
    trials: tuple[Trial, ...]
    praise: str = "Right."
    verdicts: list[Verdict] = field(default_factory=list, compare=False)

    def judge(self, answer) -> Verdict:
        """Try an answer. Whatever it does, nothing is raised."""
        if answer is ... or answer is None:
            return Verdict(self.name, False, NOT_DONE)
        for trial in self.trials:
            try:
                with np.errstate(all="ignore"):
                    right = bool(trial.holds(answer))
            except NothingReturned:
                return Verdict(self.name, False, NOT_DONE)
            except Exception as error:
                kind, said = type(error).__name__, " ".join(str(error).split())[:200]
                stopped = f"your code stopped with {kind}" + (f" ({said})" if said else "")
                return Verdict(self.name, False, f"{trial.hint} (While this was tried, {stopped}.)")
            if not right:
                return Verdict(self.name, False, trial.hint)
        return Verdict(self.name, True, self.praise)

    def __call__(self, answer):
        """Show what is found, and return what the lesson goes on with: the answer if it is right, else the solution."""
        verdict = self.judge(answer)
        self.verdicts.append(verdict)
        display(verdict)
        return answer if verdict.passed else self.solution


class NothingReturned(Exception):
    """A function of the learner's returned nothing: its body is still a stub."""


def result_of(function: Callable, *arguments, **named):
    """Call a function of the learner's.

    Raises:
        NothingReturned: it returned None or three dots.
    """
    result = function(*arguments, **named)
    if result is None or result is ...:
        raise NothingReturned
    return result


def same(result, expected, tolerance: float = 0) -> bool:
    """Whether two arrays (or numbers, or lists of numbers) have the same shape and values, up to `tolerance`."""
    result, expected = np.asarray(result), np.asarray(expected)
    return result.shape == expected.shape and bool(np.all(np.abs(result - 1.0 * expected) <= tolerance))
