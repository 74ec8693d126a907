import math
from dataclasses import dataclass

import pytest

from tiledseg_utils.files import (
    UserError,
    atomic_path,
    check_type,
    read_csv,
    read_json,
    setting_from,
    write_csv,
    write_json,
)


@dataclass(frozen=True)
class Setting:
    rate: float = 0.5
    steps: int = 3
    name: str = "a"
    on: bool = False


def test_user_error_names_path_problem_and_remedy():
    assert str(UserError("a b.png", "is empty", "Copy it again")) == "a b.png: is empty. Copy it again."


def test_atomic_path_keeps_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_json(path, 1)
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == 1
    assert [child.name for child in path.parent.iterdir()] == ["file.txt"]


def test_atomic_path_says_what_a_disk_error_means(tmp_path):
    (tmp_path / "file").write_text("a file where a folder is needed")
    with pytest.raises(UserError, match=r"out\.txt: cannot be written .* Check permissions and disk space"):
        write_json(tmp_path / "file" / "out.txt", 1)


def test_csv_round_trip_keeps_every_bit_of_a_float(tmp_path):
    write_csv(tmp_path / "table.csv", [{"stem": "zellkern ä, 1", "value": math.pi}])
    (row,) = read_csv(tmp_path / "table.csv")
    assert row["stem"] == "zellkern ä, 1" and float(row["value"]) == math.pi


def test_empty_table(tmp_path):
    write_csv(tmp_path / "table.csv", [])
    assert read_csv(tmp_path / "table.csv") == []


def test_setting_from_accepts_a_whole_number_for_a_float():
    assert setting_from(Setting, {"rate": 1, "steps": 2}, "training") == Setting(rate=1, steps=2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 1}, r"training: stepz: is not known. Did you mean steps\? Valid are rate, steps, name, on"),
        ({"zzz": 1}, r"training: zzz: is not known. Valid are"),
        ({"steps": 1.5}, r"training: steps: 1.5 is of type float, not int"),
        ({"steps": True}, r"type bool, not int"),
        ({"rate": "fast"}, r"type str, not float"),
        ({"on": 1}, r"type int, not bool"),
    ],
)
def test_setting_from_refuses(values, message):
    with pytest.raises(UserError, match=message):
        setting_from(Setting, values, "training")


def test_check_type_takes_only_mappings_for_mappings():
    check_type("a", {"x": 1}, {})
    with pytest.raises(UserError, match="type list, not dict"):
        check_type("a", [1], {})
