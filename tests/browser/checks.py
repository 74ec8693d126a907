"""What is wrong with a page, by what `look.js` found on it: functions that need no browser.

Each returns sentences, one for each thing that is wrong.
"""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

LEAST_CONTRAST = 4.5  # Of text, by WCAG 2.2, success criterion 1.4.3.
WHITE = "rgb(255, 255, 255)"
ELSEWHERE = {"http", "https", "mailto"}


def path_of(address: str) -> Path:
    """The file that an address of a disk names."""
    return Path(unquote(urlsplit(address).path))


def wrong_links(links: Collection[str], anchors: Mapping[Path, Collection[str]]) -> Iterator[str]:
    """Links to files that are not there, and to places that a page does not have.

    Args:
        links: addresses, as the browser resolves them; those of other machines are not looked at.
        anchors: names of places by page, of all pages that were opened.
    """
    for link in sorted(set(links)):
        address, place = urldefrag(link)
        scheme = urlsplit(address).scheme
        if scheme in ELSEWHERE:
            continue
        path = path_of(address)
        if scheme != "file" or not path.is_file():
            yield f"the link {link} leads nowhere"
        elif place and path in anchors and unquote(place) not in anchors[path] and place != "top":
            yield f"the link {link} leads to a place that the page does not have"


def wrong_images(images: Collection[Mapping]) -> Iterator[str]:
    """Pictures that did not load, or that say nothing to those who do not see them."""
    for image in images:
        if not image["loaded"]:
            yield f"the picture {image['source'] or 'without a source'} did not load"
        if not image["hidden"] and not (image["alt"] or "").strip():
            yield f"the picture {image['source']} has no words for those who do not see it"


def wrong_figures(figures: Collection[Mapping]) -> Iterator[str]:
    """Figures without a caption, if their picture has no words of its own either."""
    for figure in figures:
        if not figure["caption"] and len(figure["alt"]) < 10:
            yield f"a figure has neither a caption nor words for its picture ({figure['alt']!r})"


def wrong_headings(levels: Sequence[int]) -> Iterator[str]:
    """Headings that do not begin with the first level, or leave one out."""
    if not levels or levels[0] != 1:
        yield f"the first heading is of level {levels[0]}" if levels else "there is no heading"
    for above, below in itertools.pairwise(levels):
        if below > above + 1:
            yield f"a heading of level {below} follows one of level {above}"


def color_of(text: str) -> tuple[float, float, float, float]:
    """Red, green and blue, 0-255, and opacity, 0-1, of a colour as browsers compute it."""
    numbers = [float(number) for number in re.findall(r"[\d.]+", text.split("(")[1])]
    if text.startswith("color(srgb"):
        numbers[:3] = [255 * number for number in numbers[:3]]
    red, green, blue, *opacity = numbers
    return red, green, blue, opacity[0] if opacity else 1.0


def over(color: tuple, back: tuple) -> tuple:
    """The colour that is seen where a colour lies over an opaque one."""
    opacity = color[3]
    return (*(opacity * one + (1 - opacity) * other for one, other in zip(color[:3], back[:3], strict=True)), 1.0)


def luminance(color: tuple) -> float:
    """Relative luminance, 0-1 (WCAG 2.2)."""
    parts = [part / 255 for part in color[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(ink: str, backs: Sequence[str], canvas: str) -> float:
    """The contrast of a text, 1-21.

    Args:
        ink: its colour.
        backs: the colours behind it, from the nearest on.
        canvas: the colour behind all of them.
    """
    seen = color_of(canvas)
    for back in reversed(backs):
        seen = over(color_of(back), seen)
    bright, dark = sorted((luminance(over(color_of(ink), seen)), luminance(seen)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def wrong_contrasts(texts: Collection[Mapping], canvas: str) -> Iterator[str]:
    """Texts that stand out too little from what is behind them."""
    below = WHITE if color_of(canvas)[3] == 0 else canvas
    for text in texts:
        found = contrast(text["ink"], text["backs"], below)
        if found < LEAST_CONTRAST:
            colors = f"{text['ink']} on {text['backs'][-1]}"
            yield f"the text {text['example']!r} has a contrast of {found:.2f} ({colors})"


def wrong_width(overflow: int, widest: str) -> Iterator[str]:
    """A page that is wider than the screen."""
    if overflow > 0:
        yield f"the page is {overflow} px wider than the screen, as is {widest or 'something on it'}"
