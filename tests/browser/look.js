// What a page shows, for checks.py: a function that the browser runs in the page.
() => {
  const seen = (element) => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  const hidden = (element) => element.closest("[aria-hidden=true], [role=presentation]") !== null;
  const anchors = [...document.querySelectorAll("[id], a[name]")].flatMap((each) => [each.id, each.getAttribute("name")]);
  const links = [...document.querySelectorAll("a[href]")].map((each) => each.href);
  const images = [...document.images].map((each) => ({
    source: each.currentSrc.slice(0, 200), alt: each.getAttribute("alt"), hidden: hidden(each),
    loaded: each.complete && each.naturalWidth > 0,
  }));
  const figures = [...document.querySelectorAll("figure")].map((each) => ({
    caption: each.querySelector("figcaption")?.textContent.trim() ?? "",
    alt: each.querySelector("img, svg, canvas")?.getAttribute("alt") ?? "",
  }));
  const headings = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter(seen).map((each) => Number(each.tagName[1]));

  // The colours behind a text: its own element's, then those of elements around it, up to one that nothing shines through.
  const behind = (element) => {
    const colors = [];
    for (let each = element; each; each = each.parentElement) {
      const style = getComputedStyle(each);
      if (style.backgroundImage !== "none" && !style.backgroundImage.startsWith("linear-gradient")) return null;
      colors.push(style.backgroundColor);
      if (/^rgb\(/.test(style.backgroundColor)) return colors;
    }
    return colors;
  };
  const texts = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || !seen(element) || element.closest("script, style, noscript, select, [disabled]")) continue;
    const backs = behind(element);
    if (backs === null) continue;
    const ink = getComputedStyle(element).color, key = JSON.stringify([ink, backs]);
    if (!texts.has(key)) texts.set(key, { ink, backs, example: text.slice(0, 60) });
  }
  const root = document.documentElement;
  const overflow = Math.max(root.scrollWidth, document.body.scrollWidth) - root.clientWidth;
  const scrolls = (element) => getComputedStyle(element).overflowX !== "visible";
  const within = (element) => element !== document.body && (scrolls(element) || within(element.parentElement));
  const widest = overflow <= 0 ? "" : [...document.body.querySelectorAll("*")]
    .filter((each) => each.getBoundingClientRect().right > root.clientWidth + 1 && !within(each.parentElement)).slice(0, 1)
    .map((each) => `${each.tagName.toLowerCase()}.${each.className}`).join("");
  const canvas = root.ownerDocument.defaultView.getComputedStyle(root).backgroundColor;
  return { anchors: anchors.filter(Boolean), links, images, figures, headings, texts: [...texts.values()], overflow, widest, canvas };
}
