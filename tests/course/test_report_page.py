"""The page of a run and what lies beside it: made of a run folder without notebooks, and read as a browser reads it."""

import itertools
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import cv2
import numpy as np
import pytest

from tiledseg_utils.base.files import read_csv, read_json, write_csv, write_json
from tiledseg_utils.base.paths import PACKAGE, check_replaceable
from tiledseg_utils.course import plots, viewer
from tiledseg_utils.course.report_page import scores_by_part, write_page
from tiledseg_utils.data import images, provenance
from tiledseg_utils.models import build_model
from tiledseg_utils.scoring.classes import class_rows
from tiledseg_utils.settings.parameters import TileSetting
from tiledseg_utils.settings.presets import read_preset
from tiledseg_utils.tiles import tiling

SCORES = {"mean": 0.7, "median": 0.7, "pooled": 0.7}


def metrics_of(stems):
    scores = SCORES | {"per_image": {stem: 0.5 + 0.1 * number for number, stem in enumerate(stems)}}
    way = {"dice": scores, "iou": scores, "seconds": 1.0, "megapixels_per_second": 1.0}
    difference = {"dice_mean": 0.2, "ci95": [0.1, 0.3]}
    return {
        "preset": "smoke",
        "seed": 1,
        "data": {"path": "data", "sha256": "0", "images": {"train": 2, "valid": 1, "test": len(stems)}},
        "training": {"steps": 1, "seconds": 1.0, "parameters": 1, "best_epoch": 1},
        "tiled": way,
        "non_tiled": way,
        "difference": difference,
        "baselines": [way | {"way": "reduced", "reduced_to": 64, "steps": 1, "difference": difference}],
        "peak_rss_mb": 1,
        "environment": {"keras": "3"},
    }


def begin(run, data):
    """What notebooks 1, 3 and 5 leave, as far as the page reads it; returns the metrics."""
    files = provenance.begin_run(run, data)
    splits = images.split_pairs(images.find_pairs(data), data, 0)
    tiling.write_tile_set(splits, run / "tiles", TileSetting(tile_size=64))
    provenance.finish_run(run, data, splits, files, seed=1)
    build_model("unet", {"base_filters": 4, "levels": 2}).save(run / "model.keras")
    metrics = metrics_of([pair.stem for pair in splits["test"]])
    write_json(run / "results" / "05_comparison.json", {way: metrics[way] for way in ("tiled", "non_tiled")})
    write_csv(run / "results" / "04_scores.csv", [{"stem": "a", "dice": 0.5}])
    write_json(run / "results" / "09_pitfalls.json", [{"pitfall": "blue", "cost": 0.25, "low": None}])
    masks = {pair.stem: images.mask_of(pair) for pair in splits["test"]}
    viewer.write_masks(run, {"tiled": masks, "non_tiled": {stem: ~mask for stem, mask in masks.items()}})
    figures, noise = plots.FigureFolder(run), np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)
    for name in ("01_images", "04_gallery", "other"):
        figures.grid(name, f"A <figure> & its caption, {name}.", {"noise": noise})
    return metrics


@pytest.fixture(scope="module")
def run(data_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    metrics = begin(folder, data_folder)
    write_page(folder, metrics, read_preset("smoke") | {"run_dir": "x", "prediction": {"tile_size": 128}}, {})
    return folder


class Page(HTMLParser):
    """Tags of a page with their attributes, in order."""

    def __init__(self, path):
        super().__init__()
        self.tags = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def all(self, *names):
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.fixture(scope="module", params=["index.html", "viewer.html"])
def page(run, request):
    return Page(run / "report" / request.param)


def test_links_resolve_and_nothing_comes_from_a_network(run, page):
    targets = [
        each[name] for each in page.all("a", "img", "link", "script") for name in ("href", "src") if name in each
    ]
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert targets and not [target for target in targets if ":" in target]
    for target in targets:
        file, _, anchor = target.partition("#")
        assert not anchor or anchor in anchors, target
        assert not file or (run / "report" / unquote(file)).is_file(), target
    for path in (run / "report").glob("*.html"):
        if path.name != "glossary.html":
            assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp", path.read_text(encoding="utf-8"))


def test_headings_are_in_order_and_the_keyboard_gets_to_the_content(page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    first = page.all("a")[0]
    target = next(attributes for _, attributes in page.tags if attributes.get("id") == first["href"][1:])
    assert first["class"] == "skip" and "tabindex" in target


def test_figures_have_words_and_sizes_and_wait_until_they_are_seen(run):
    pictures = Page(run / "report" / "index.html").all("img")
    assert [picture["src"].split(".")[0] for picture in pictures] == [
        f"figures/{name}" for name in ("04_gallery", "01_images", "04_gallery", "other")
    ]
    assert "loading" not in pictures[0] and {picture["loading"] for picture in pictures[1:]} == {"lazy"}
    for picture in pictures:
        path = run / "report" / picture["src"]
        height, width = cv2.imread(str(path)).shape[:2]
        assert (int(picture["width"]), int(picture["height"])) == (width, height)
        assert picture["alt"].startswith("A <figure> & its caption")
        assert path.stat().st_size <= (run / "figures" / f"{path.stem}.png").stat().st_size
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert page.index("Tiled prediction scores") < page.index("<img") < page.index('class="headline"')
    titles = re.findall(r"<h3[^>]*>(.*?)</h3>", page)
    assert titles == ["1. Data and tiling", "4. Evaluation", "Other figures"]


def test_tables_scroll_on_their_own_and_numbers_stand_right(run):
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert page.count("<table>") == page.count('<div class="scroll') == page.count("<caption>") > 5
    assert '<td class="number">+0.100 to +0.300</td>' in page and '<td class="number">not measurable</td>' in page
    assert ">reduced</th>" in page and '<th scope="col">way</th>' in page


def test_downloads_are_copies_and_the_parameters_are_a_preset(run):
    folder = run / "report" / "downloads"
    assert (folder / "model.keras").read_bytes() == (run / "model.keras").read_bytes()
    stems = [row["stem"] for row in read_csv(folder / "scores.csv")]
    assert read_json(folder / "metrics.json") == metrics_of(stems) and len(stems) == 2
    again = read_preset(str(folder / "parameters.yaml"))
    assert "run_dir" not in again and again["prediction"] == {"tile_size": 128}
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    size = f"{(run / 'model.keras').stat().st_size / 1000:.1f} kB"
    assert f">{size}<" in page and "tile_size: 128" in page[page.index("<details>") :]


def test_a_run_with_its_report_can_be_replaced(run):
    check_replaceable(run)


def test_what_an_earlier_page_left_goes(run, data_folder, tmp_path):
    metrics = begin(tmp_path, data_folder)
    write_page(tmp_path, metrics, {}, {})
    for path in [*(tmp_path / "figures").glob("other.*"), *(tmp_path / viewer.MASKS).glob("tiled/*")]:
        path.unlink()
    write_page(tmp_path, metrics, {}, {})
    left = {path.relative_to(tmp_path / "report").as_posix() for path in (tmp_path / "report").rglob("*.*")}
    assert not [name for name in left if "other" in name or name.startswith("viewer")]
    assert "viewer" not in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_the_page_shows_what_a_run_without_figures_has(tmp_path):
    page = write_page(tmp_path, metrics_of(["a"]) | {"baselines": []}, {}, {}).read_text(encoding="utf-8")
    assert "<figure" not in page and 'id="figures"' not in page and "Tiled prediction scores" in page


def layer(run, name):
    return cv2.imread(str(run / "report" / "viewer" / name), cv2.IMREAD_UNCHANGED)


def test_the_viewer_has_every_layer_from_the_worst_image_to_the_best(run):
    splits = provenance.run_splits(run)
    files = sorted(path.name for path in (run / "report" / "viewer").iterdir())
    names = ("errors_non_tiled", "errors_tiled", "image", "non_tiled", "reference", "tiled")
    assert files == [f"{number:02}_{name}.webp" for number in (1, 2) for name in names]
    page = (run / "report" / "viewer.html").read_text(encoding="utf-8")
    assert re.findall(r"<option[^>]*>(.*?)<", page) == [pair.stem for pair in splits["test"]]
    assert '"grid": [[' in page and '"grid": [[], []]' not in page  # tiles of 128 px on 280 px
    image, mask = images.read_pair(splits["test"][0])
    shown, errors, wrong = (layer(run, f"01_{name}.webp") for name in ("image", "errors_tiled", "errors_non_tiled"))
    assert np.abs(shown[..., ::-1].astype(int) - image).mean() < 12
    assert (errors[..., 3] > 0).tolist() == mask.tolist()  # all found, and nothing else
    assert wrong[mask][0][:3].tolist() == [*plots.MISSED][::-1]
    assert wrong[~mask][0][:3].tolist() == [*plots.INVENTED][::-1]


def test_of_many_images_the_viewer_shows_some_from_the_worst_to_the_best():
    pairs = [images.Pair(f"{number}", None, None) for number in range(100)]
    dice = {"tiled": {pair.stem: int(pair.stem) / 100 for pair in pairs}}
    chosen = [int(pair.stem) for pair in viewer._spread(pairs[::-1], dice)]
    assert chosen == sorted(set(chosen)) and len(chosen) == viewer.MOST_IMAGES and chosen[0] == 0 and chosen[-1] == 99


def luminance(color):
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_contrast_in_light_dark_and_print():
    css = (PACKAGE / "course" / "pages" / "page.css").read_text(encoding="utf-8")
    schemes = re.findall(r":root \{([^}]*)\}", css)
    assert len(schemes) == 3
    for scheme in schemes:
        colors = {
            name: value if len(value) == 7 else "#" + "".join(2 * each for each in value[1:])
            for name, value in re.findall(r"--(\w+): (#\w+)", scheme)
        }
        for ink, back in itertools.product(("ink", "soft", "accent"), ("back", "card")):
            bright, dark = sorted((luminance(colors[ink]), luminance(colors[back])), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ink, back, scheme)


def test_the_script_of_the_viewer_is_short():
    assert len((PACKAGE / "course" / "pages" / "viewer.js").read_text(encoding="utf-8").splitlines()) <= 150


def test_scores_by_kind_and_by_class_have_tables():
    one = {"kind": "grey", "images": 1, "mean": 0.7, "ci95": [None, None], "pooled": 0.7}
    one |= {"lowest": 0.7, "lowest_image": "b"}
    two = one | {"kind": "dark", "images": 2, "ci95": [0.6, 0.8], "lowest": 0.6, "lowest_image": "a"}
    rows = class_rows({"a": np.array([[5, 1, 0], [0, 4, 0], [0, 1, 3]])}, ("background", "red cell", "nucleus"))
    by_kind, by_class = scores_by_part({"kinds": [two, one], "classes": rows})
    assert by_kind.rows[0] == ["dark", "2", "0.700", "0.600 to 0.800", "0.700", "0.600", "a"]
    assert by_kind.rows[1][3] == ""  # A single image has no interval.
    assert [row[0] for row in by_class.rows] == ["red cell", "nucleus", "background"]
    assert not list(scores_by_part({"kinds": [one]})) and not list(scores_by_part({}))
