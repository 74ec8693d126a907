"""What every exercise must show: its solution passes, a stub fails, and wrong answers get hints of their own."""

from tiledseg_utils.course.exercises import NOT_DONE, Exercise


def checks_of(module) -> dict[str, Exercise]:
    """The checks in the file of a lesson, by name."""
    return {name: value for name, value in vars(module).items() if isinstance(value, Exercise)}


def require_table(module, wrong: dict[str, list[tuple]]) -> None:
    """Try the exercises of a lesson.

    Args:
        module: `exercises.lesson_NN`.
        wrong: by name of the check, at least three typical wrong answers, each with a part of the hint that it gets.
    """
    checks = checks_of(module)
    assert len(checks) >= 3 and wrong.keys() == checks.keys()
    for name, check in checks.items():
        verdict = check.judge(check.solution)
        assert verdict.passed, f"{name}: the solution fails: {verdict.message}"
        stubs = [..., None] + ([lambda *arguments, **named: None] if callable(check.solution) else [])
        for stub in stubs:
            assert check.judge(stub).message == NOT_DONE, f"{name}: a stub is not told as one"
        hints = []
        for answer, part in wrong[name]:
            verdict = check.judge(answer)
            assert not verdict.passed, f"{name}: a wrong answer passes ({part})"
            assert part in verdict.message, f"{name}: {part!r} is not in the hint {verdict.message!r}"
            hints.append(verdict.message.split(" (While")[0])
        assert len(hints) >= 3 and len(set(hints)) == len(hints), f"{name}: wrong answers share a hint: {hints}"
