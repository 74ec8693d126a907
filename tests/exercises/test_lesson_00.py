"""The exercises of notebook 00: solutions pass, stubs fail, and wrong answers get hints of their own."""

from tests.exercises.table import require_table
from tiledseg_utils.course.exercises import lesson_00


def test_exercises():
    require_table(
        lesson_00,
        {
            "check_slope": [(-4.0, "the sign"), (2.0, "inside the brackets"), (10.0, "Compare two neighbours")],
            "check_rate": [
                (0.01, "every step is tiny"),
                (1.1, "overshoots"),
                (0.1, "gets nearer in as many steps"),
                (0.5, "one of the four"),
            ],
            "check_foreground_share": [
                (lambda mask: mask.sum(), "divide it by the number"),
                (lambda mask: 100 * mask.mean(), "a percentage"),
                (lambda mask: 1 - mask.mean(), "0.25 should come out"),
                (lambda mask: mask.sum() / len(mask) ** 2, "not square"),
            ],
        },
    )
