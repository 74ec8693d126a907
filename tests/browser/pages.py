"""Every HTML page of some folders in Chromium: on a desk and on a phone, light and dark, without a network."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.browser import checks

LOOK = Path(__file__).with_name("look.js").read_text(encoding="utf-8")
LOOKS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
HEIGHTS = {1280: 900, 390: 844}  # pixels
PATIENCE = 60_000  # milliseconds
SETTLING = 1_000  # milliseconds


class Listener:
    """What a page complains of, and what it asks a network for."""

    def __init__(self, page):
        self.said, self.asked = [], 0
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.said.append(f"its script failed: {error}"))
        page.on("requestfailed", lambda request: self.said.append(f"{request.url[:200]} cannot be read"))
        page.on("request", self._request)

    def _console(self, message) -> None:
        if message.type in ("error", "warning"):
            self.said.append(f"the console says: {message.text[:300]}")

    def _request(self, request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.asked += 1
            self.said.append(f"it asks a network for {request.url[:200]}")


def check_folders(browser, folders: Sequence[Path]) -> tuple[list[str], Counter]:
    """Open all pages of some folders.

    Args:
        browser: of Playwright.
        folders: each with HTML pages that lead to no other folder.

    Returns:
        what is wrong, one sentence each with the name of the page; and how many there were of each kind of thing.
    """
    context = browser.new_context(offline=True)
    counts, found, anchors, links = Counter(), [], {}, {}
    for folder in folders:
        for path in sorted(folder.resolve().rglob("*.html")):
            name = f"{folder.name}/{path.relative_to(folder.resolve()).as_posix()}"
            page = context.new_page()
            problems, looks = _check_page(page, path, counts)
            page.close()
            anchors[path] = {anchor for look in looks for anchor in look["anchors"]}
            links[name] = {link for look in looks for link in look["links"]}
            found += [f"{name}: {problem}" for problem in dict.fromkeys(problems)]
    for name, leading in links.items():
        counts["links"] += len(leading)
        found += [f"{name}: {problem}" for problem in checks.wrong_links(leading, anchors)]
    context.close()
    return found, counts


def _check_page(page, path: Path, counts: Counter) -> tuple[list[str], list[dict]]:
    """What is wrong with one page in each of `LOOKS`, and what was seen in each."""
    listener, problems, looks = Listener(page), [], []
    start = time.perf_counter()
    page.goto(path.as_uri(), timeout=PATIENCE)
    counts["milliseconds to open"] += round(1000 * (time.perf_counter() - start))
    page.evaluate("() => { for (const each of document.images) each.loading = 'eager'; }")
    page.wait_for_function("() => [...document.images].every((each) => each.complete)", timeout=PATIENCE)
    for width, scheme in LOOKS:
        page.set_viewport_size({"width": width, "height": HEIGHTS[width]})
        page.emulate_media(color_scheme=scheme)
        # Colours that fade into others would be measured on their way.
        page.add_style_tag(content="*, ::before, ::after { transition: none !important; animation: none !important; }")
        look = page.evaluate(LOOK)
        if look["overflow"] > 0:  # The page's own script may still be fitting it to the new width.
            page.wait_for_timeout(SETTLING)
            look = page.evaluate(LOOK)
        looks.append(look)
        where = f"{width} px, {scheme}"
        wrong = list(checks.wrong_width(look["overflow"], look["widest"]))
        counts["too wide"] += len(wrong)
        wrong += checks.wrong_contrasts(look["texts"], look["canvas"])
        problems += [f"{problem} ({where})" for problem in wrong]
        counts["contrasts"] += len(look["texts"])
    counts["pages"] += 1
    counts["views"] += len(looks)
    counts["pictures"] += len(looks[0]["images"])
    counts["figures"] += len(looks[0]["figures"])
    counts["headings"] += len(looks[0]["headings"])
    counts["console errors"] += len(listener.said)
    counts["requests to a network"] += listener.asked
    return problems + list(_wrong_content(looks[0])) + listener.said, looks


def _wrong_content(look: dict) -> Iterator[str]:
    yield from checks.wrong_images(look["images"])
    yield from checks.wrong_figures(look["figures"])
    yield from checks.wrong_headings(look["headings"])


def check_viewer(browser, path: Path) -> tuple[list[str], int]:
    """Use the viewer of a report with the keyboard alone.

    Returns:
        what did not work, and how many things were tried.
    """
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    listener = Listener(page)
    page.goto(path.as_uri(), timeout=PATIENCE)
    if page.evaluate("() => typeof view") != "object":
        page.close()
        return [f"{path.name}: its script did not run"], 1
    for _ in range(20):
        if page.evaluate("() => document.activeElement.id") == "picture":
            break
        page.keyboard.press("Tab")
    state = """() => ({ focus: document.activeElement.id, layer: byId("layer").value, name: byId("name").textContent,
                       image: byId("image").value, grid: byId("grid").checked, ...view })"""
    seen = [page.evaluate(state)]
    tried = {
        "Tab": lambda before, after: after["focus"] == "picture",
        "5": lambda before, after: (after["layer"], after["name"]) == ("4", "errors of tiled"),
        "[": lambda before, after: after["layer"] == "3",
        "]": lambda before, after: after["layer"] == "4",
        "+": lambda before, after: after["zoom"] > before["zoom"],
        "ArrowRight": lambda before, after: after["x"] > before["x"],
        "ArrowDown": lambda before, after: after["y"] > before["y"],
        "ArrowLeft": lambda before, after: after["x"] < before["x"],
        "ArrowUp": lambda before, after: after["y"] < before["y"],
        "-": lambda before, after: after["zoom"] < before["zoom"],
        "0": lambda before, after: after["zoom"] <= seen[0]["zoom"] * 1.001,
        "g": lambda before, after: after["grid"] != before["grid"],
        "n": lambda before, after: after["image"] != before["image"],
        "p": lambda before, after: after["image"] == seen[0]["image"],
    }
    problems = []
    for key, worked in tried.items():
        if key != "Tab":
            page.keyboard.press(key)
        seen.append(page.evaluate(state))
        if not worked(seen[-2], seen[-1]):
            problems.append(f"{path.name}: the key {key} did nothing that was seen ({seen[-1]})")
    page.close()
    return problems + [f"{path.name}: {problem}" for problem in listener.said], len(tried)
