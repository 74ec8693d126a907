"""Tables of nuclei in files, and what they say about images and groups."""

import numpy as np
import pandas as pd
import pytest

from tests.data.test_streaming import assert_user_error
from tiledseg_utils.scoring.measure import measure
from tiledseg_utils.scoring.nucleus_tables import (
    check_absent,
    join_nuclei,
    summarise_groups,
    summarise_images,
    write_frame,
    write_nuclei,
)


def squares(*sides):
    """Labels of squares of these sides, none at the border."""
    labels = np.zeros((40, 200), np.int32)
    for number, side in enumerate(sides):
        labels[2 : 2 + side, 2 + 30 * number : 2 + 30 * number + side] = number + 1
    return labels


def test_tables_are_joined_whatever_their_columns_and_names(tmp_path):
    tables = {
        "=a.png": measure(squares(4, 6)),
        "b.png": measure(squares(3), pixel_size=0.3),
        "c.png": measure(squares()),
    }
    paths = [tmp_path / f"{number}.csv" for number in range(3)]
    for path, (name, table) in zip(paths, tables.items(), strict=True):
        write_nuclei(path, table, name, {"of": name})
    assert paths[0].read_text().splitlines()[1].startswith("'=a.png,1,")  # no formula for a spreadsheet
    joined = join_nuclei(paths)
    assert joined["file"].tolist() == ["=a.png", "=a.png", "b.png"] and joined["area"].tolist() == [16, 36, 9]
    assert joined["area_um2"].isna().tolist() == [True, True, False]
    assert joined["perimeter_um"].iloc[2] == tables["b.png"]["perimeter_um"].iloc[0]  # to the last bit
    assert len(join_nuclei(paths[2:])) == 0 and "area" in join_nuclei(paths[2:])


def test_summaries_count_images_not_nuclei():
    names = ["a.png", "b.png", "c.png", "d.png"]
    tables = [
        measure(squares(*sides)).assign(file=name)
        for name, sides in zip(names, [(4, 8), (6,), (2, 2, 2)], strict=False)
    ]
    images = summarise_images(pd.concat(tables), names, {"a": "large", "b": "large"})
    assert images["nuclei"].tolist() == [2, 1, 3, 0] and images["group"].tolist() == ["large", "large", "all", "all"]
    assert images["mean_area"].tolist()[:3] == [40, 36, 4] and np.isnan(images["mean_area"].iloc[3])
    assert images["share_at_border"].tolist()[:3] == [0, 0, 0]
    groups = summarise_groups(images, seed=1).set_index(["group", "column"])
    area = groups.loc[("all", "mean_area")]
    assert area["images"] == 3 and area["mean"] == pytest.approx(80 / 3) and 4 <= area["low"] < area["high"] <= 40
    assert groups.loc[("all", "nuclei"), "images"] == 4 and groups.loc[("large", "mean_area"), "mean"] == 38
    assert groups.loc[("all", "share_at_border"), ["low", "high"]].tolist() == [0, 0]
    single = summarise_groups(images.iloc[:1]).set_index(["group", "column"])
    assert single.loc[("large", "nuclei"), "mean"] == 2 and np.isnan(
        float(single.loc[("large", "nuclei"), "low"] or np.nan)
    )


def test_a_table_that_exists_is_told_from_an_own_one(tmp_path):
    path = tmp_path / "nuclei.csv"
    check_absent(path, {"call": 1})
    write_frame(path, measure(squares(4)), {"call": 1})
    check_absent(path, {"call": 1})
    assert_user_error(lambda: check_absent(path, {"call": 2}), path, "exists already", "--overwrite")
    path.write_text("mine")
    assert_user_error(lambda: check_absent(path, {"call": 1}), path, "exists already")
