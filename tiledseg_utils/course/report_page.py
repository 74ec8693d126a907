"""The page of a run: its verdict and lead picture, then scores, figures, downloads and provenance.

Everything that the page shows lies beside it in `<run>/report/`, so that it can be read from a disk, without a network,
and be sent as a folder.
"""

import datetime
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import nbformat
import yaml

from ..base.files import atomic_path, read_json, write_csv, write_json
from ..base.paths import NOTEBOOK_FOLDER
from ..settings.presets import NOT_IN_PRESETS
from . import class_scores, links
from .machine import git_commit
from .notebook_pages import write_notebook_pages
from .page_tables import Link, PageTable, page_table, render
from .verdict import interval, lead_picture, rivals_that_reduce, strongest_rival, verdict, whole_image
from .viewer import write_viewer
from .web_pictures import remove_others, smallest, write_bytes

TABLES = {
    "Architectures, trained alike (notebook 7)": ("07_architectures.json", None),
    "Counting nuclei that touch (notebook 8)": ("08_counting.json", "scores"),
    "Pitfalls (notebook 9)": ("09_pitfalls.json", None),
}
"""What the page shows of the results of these notebooks: a file, and the entry of it that holds the rows."""


def write_page(run: Path, metrics: Mapping, parameters: Mapping, executed: Mapping[str, Mapping]) -> Path:
    """Write `<run>/report/index.html`, and beside it what it shows and leads to.

    Args:
        run: run folder.
        metrics: what `report.collect_metrics` returned.
        parameters: of the run, by name.
        executed: {"seconds", "peak_mib"} of the notebooks that have run, by name.

    Returns:
        path of the page.

    Raises:
        UserError: a result is damaged, or the disk is full.
    """
    folder = run / "report"
    pages = {name: nbformat.read(run / "notebooks" / f"{name}.ipynb", as_version=4) for name in executed}
    if (glossary := links.glossary_notebook(NOTEBOOK_FOLDER)) is not None:
        pages[links.GLOSSARY] = glossary
    write_notebook_pages(folder, pages)
    figures = {figure["name"]: figure for figure in _write_figures(run, folder)}
    preset = {name: value for name, value in parameters.items() if name not in NOT_IN_PRESETS}
    as_yaml = yaml.safe_dump(preset, sort_keys=False, allow_unicode=True)
    page = render(
        "report.html",
        run=run.name,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        metrics=metrics,
        verdict=verdict(metrics),
        lead=figures.get(lead_picture(figures)),
        viewer=write_viewer(run, folder, parameters.get("prediction", {})),
        cards=_cards(metrics),
        scores=[_ways(metrics), *scores_by_part(metrics), _scores(metrics)],
        tables=list(_more_tables(run)),
        notebooks=_notebooks(executed),
        groups=_groups(figures, pages),
        downloads=_write_downloads(run, folder / "downloads", metrics, as_yaml),
        provenance=_provenance(metrics),
        parameters=as_yaml,
    )
    with atomic_path(folder / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return folder / "index.html"


def _write_figures(run: Path, folder: Path) -> Iterator[dict]:
    """Write the figures of a run as small files; name, caption, href (from the page), width and height of each."""
    written = set()
    for path in sorted((run / "figures").glob("*.png")):
        picture = smallest(path.read_bytes())
        name = f"{path.stem}.{picture.kind}"
        write_bytes(folder / "figures" / name, picture.content)
        written.add(name)
        caption = read_json(path.with_suffix(".json"))["caption"]
        size = {"width": picture.width, "height": picture.height}
        yield {"name": path.stem, "caption": caption, "href": f"figures/{quote(name)}"} | size
    remove_others(folder / "figures", written)


def _groups(figures: Mapping[str, Mapping], pages: Mapping) -> list[dict]:
    """The figures by the notebook that drew them, which their names begin with; titles are those of the notebooks."""
    notebooks = {path.stem[:2]: path for path in sorted(NOTEBOOK_FOLDER.glob("[0-9][0-9]_*.ipynb"))}
    groups = {}
    for name, figure in figures.items():
        path = notebooks.get(name[:2])
        stem = path.stem if path else "other"
        if stem not in groups:
            title = _heading(path) if path else "Other figures"
            href = f"{stem}.html" if stem in pages else None
            groups[stem] = {"anchor": f"of_{stem}", "title": title, "href": href, "figures": []}
        groups[stem]["figures"].append(figure)
    return list(groups.values())


def _heading(path: Path) -> str:
    """The first heading of a notebook, or its name without one."""
    lines = (line for cell in nbformat.read(path, as_version=4).cells[:1] for line in cell.source.splitlines())
    return next((line.removeprefix("# ") for line in lines if line.startswith("# ")), path.stem)


def _cards(metrics: Mapping) -> list[tuple[str, str]]:
    """The scores that matter most: a number, and what it is."""
    images = metrics["data"]["images"]["test"]
    cards = [(metrics["tiled"], f"tiled, mean Dice of {images} test image{'s' * (images != 1)}")]
    cards.append((metrics["non_tiled"], "same model, image reduced to one tile"))
    if (rival := strongest_rival(rivals_that_reduce(metrics))) is not None:
        cards.append((rival, f"strongest fair rival that reduces the image: {rival['way']}"))
    if (whole := whole_image(metrics)) is not None:
        cards.append((whole, whole["way"]))
    return [(f"{way['dice']['mean']:.3f}", words) for way, words in cards]


def _ways(metrics: Mapping) -> PageTable:
    """Tiled prediction and all its rivals."""
    steps = metrics["training"]["steps"]
    straw = metrics["non_tiled"] | {"way": "same network, image reduced to one tile", "steps": steps}
    straw |= {"difference": metrics["difference"]}
    rows = [_way(metrics["tiled"] | {"way": "tiled", "steps": steps})]
    rows += [_way(row) for row in [straw, *metrics["baselines"]]]
    return page_table("Tiled prediction and its rivals (notebook 5)", rows)


def _way(row: Mapping) -> dict:
    difference = row.get("difference")
    return {
        "way": row["way"],
        "mean Dice": f"{row['dice']['mean']:.3f}",
        "tiled is better by": f"{difference['dice_mean']:+.3f}" if difference else "",
        "95 % interval": interval(difference["ci95"]) if difference else "",
        "seconds": f"{row['seconds']:.1f}",
        "megapixels per second": f"{row['megapixels_per_second']:.2f}",
        "steps learnt": str(row["steps"]),
    }


def scores_by_part(metrics: Mapping) -> Iterator[PageTable]:
    """Scores of tiled prediction by kind of image, if there are several, and by class, if there are any."""
    kinds = [
        {
            "kind": row["kind"],
            "test images": str(row["images"]),
            "mean Dice": f"{row['mean']:.3f}",
            "95 % interval": " to ".join(f"{end:.3f}" for end in row["ci95"] if end is not None),
            "pooled Dice": f"{row['pooled']:.3f}",
            "lowest Dice": f"{row['lowest']:.3f}",
            "of": row["lowest_image"],
        }
        for row in metrics.get("kinds", ())
    ]
    if len(kinds) > 1:
        yield page_table("Tiled prediction, by kind of image (notebook 4)", kinds)
    if "classes" in metrics:
        yield page_table("Tiled prediction, by class (notebook 4)", class_scores.shown(metrics["classes"]))


def _scores(metrics: Mapping) -> PageTable:
    rows = [
        {"image": stem} | {f"{way}, {score}": f"{value:.3f}" for (way, score), value in values.items()}
        for stem, values in _score_rows(metrics)
    ]
    for kind in ("mean", "median", "pooled"):
        values = {(way, score): metrics[key][score.lower()][kind] for key, way, score in WAY_SCORES}
        rows.append({"image": kind} | {f"{way}, {score}": f"{value:.3f}" for (way, score), value in values.items()})
    return page_table("Scores of the test images", rows)


WAY_SCORES = [
    (key, way, score) for key, way in (("tiled", "tiled"), ("non_tiled", "non-tiled")) for score in ("Dice", "IoU")
]


def _score_rows(metrics: Mapping) -> Iterator[tuple[str, dict]]:
    """Each test image with its scores by (way, score)."""
    for stem in metrics["tiled"]["dice"]["per_image"]:
        yield stem, {(way, score): metrics[key][score.lower()]["per_image"][stem] for key, way, score in WAY_SCORES}


def _more_tables(run: Path) -> Iterator[PageTable]:
    for caption, (name, entry) in TABLES.items():
        if (run / "results" / name).exists():
            content = read_json(run / "results" / name)
            yield page_table(caption, content[entry] if entry else content)


def _notebooks(executed: Mapping[str, Mapping]) -> PageTable:
    rows = [
        {"notebook": Link(name, f"{name}.html")}
        | {"seconds": f"{cost['seconds']:.0f}", "peak memory, MB": str(cost["peak_mib"])}
        for name, cost in executed.items()
    ]
    if (NOTEBOOK_FOLDER / f"{links.GLOSSARY}.md").exists():
        rows.append({"notebook": Link("glossary", f"{links.GLOSSARY}.html"), "seconds": "", "peak memory, MB": ""})
    return page_table("The executed notebooks, and what each took", rows)


def _write_downloads(run: Path, folder: Path, metrics: Mapping, parameters: str) -> PageTable:
    """Copies of what others may want of a run, with their sizes."""
    write_json(folder / "metrics.json", metrics)
    rows = [
        {"stem": stem} | {f"{way} {score}": value for (way, score), value in values.items()}
        for stem, values in _score_rows(metrics)
    ]
    write_csv(folder / "scores.csv", rows)
    write_bytes(folder / "parameters.yaml", parameters.encode())
    what = {
        "metrics.json": "every number of this page, for other programs",
        "scores.csv": "scores of the test images, tiled and non-tiled",
        "parameters.yaml": "the parameters, as a preset for another run",
    }
    copied = {run / "model.keras": "the network; it takes RGB images of 8 bits as they are"}
    copied |= {
        path: f"table of notebook {int(path.name[:2])}" for path in sorted((run / "results").glob("[0-9][0-9]_*.csv"))
    }
    copied |= {run / "training" / "history.csv": "loss and scores of every epoch"}
    for path, words in copied.items():
        if path.exists():
            with atomic_path(folder / path.name, sync=False) as temporary:
                shutil.copyfile(path, temporary)
            what[path.name] = words
    rows = [
        {
            "file": Link(name, f"downloads/{quote(name)}"),
            "size": _size((folder / name).stat().st_size),
            "what it is": words,
        }
        for name, words in what.items()
    ]
    return page_table("Copies of the results, in the folder downloads", rows)


def _size(count: int) -> str:
    """A number of bytes in the unit in which it is easily read."""
    for unit, bytes_of_it in (("MB", 1e6), ("kB", 1e3)):
        if count >= bytes_of_it:
            return f"{count / bytes_of_it:.1f} {unit}"
    return f"{count} bytes"


def _provenance(metrics: Mapping) -> PageTable:
    data, training = metrics["data"], metrics["training"]
    images = ", ".join(f"{data['images'][name]} {words}" for name, words in SPLIT_WORDS.items())
    trained = f"{training['parameters']:,} parameters, {training['steps']} steps in {training['seconds']:.0f} s"
    rows = {
        "data": data["path"],
        "images": images,
        "sha256 of the data": data["sha256"],
        "training": f"{trained}, best epoch {training['best_epoch']}",
        "peak memory": f"{metrics['peak_rss_mb']} MB",
        "environment": ", ".join(f"{name} {value}" for name, value in metrics["environment"].items()),
        "commit": git_commit(NOTEBOOK_FOLDER),
        "seed": str(metrics["seed"]),
    }
    return page_table("What this run was made of", [{"what": name, "value": value} for name, value in rows.items()])


SPLIT_WORDS = {"train": "for training", "valid": "for validation", "test": "for testing"}
