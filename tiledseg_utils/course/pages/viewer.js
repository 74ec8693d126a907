"use strict";
// Layers are drawn over the image; error maps over its grey copy. A canvas that shows files of a disk cannot be read back,
// so all mixing is done by drawing.
const LAYERS = ["image", "reference", "tiled", "non_tiled", "errors_tiled", "errors_non_tiled"];
const NAMES = ["image", "reference", "tiled", "non-tiled", "errors of tiled", "errors of non-tiled"];
const byId = (id) => document.getElementById(id);
const canvas = byId("picture"), context = canvas.getContext("2d"), pictures = new Map(), fingers = new Map();
const view = { x: 0, y: 0, zoom: 1 };  // The image's point in the middle, and screen pixels per image pixel.
let image = IMAGES[0], pinch = 0, missing = "";

function picture(layer) {
  const path = `viewer/${image.number}_${layer}.webp`;
  if (!pictures.has(path)) {
    const loading = new Image();
    loading.onload = draw;
    loading.onerror = () => { missing = ` ${path} is missing beside this page.`; draw(); };
    loading.src = path;
    pictures.set(path, loading);
  }
  const found = pictures.get(path);
  return found.complete && found.naturalWidth ? found : null;
}

function draw() {
  const ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect(), layer = Number(byId("layer").value);
  const width = Math.round(box.width * ratio), height = Math.round(box.height * ratio);
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  const scale = view.zoom * ratio;
  context.setTransform(scale, 0, 0, scale, width / 2 - view.x * scale, height / 2 - view.y * scale);
  context.imageSmoothingEnabled = view.zoom < 2;  // Closer up, every pixel shall be seen.
  const base = picture("image"), over = layer ? picture(LAYERS[layer]) : null;
  if (base) context.drawImage(base, 0, 0);
  if (base && layer > 3) {
    context.globalCompositeOperation = "saturation";
    context.fillStyle = "#808080";
    context.fillRect(0, 0, image.width, image.height);
    context.globalCompositeOperation = "source-over";
  }
  if (over) context.drawImage(over, 0, 0);
  if (byId("grid").checked) drawGrid(scale);
  describe(layer);
}

function drawGrid(scale) {
  const [rows, columns] = image.grid;
  for (const [color, width] of [["#000", 3], ["#fff", 1.2]]) {  // White on black is seen on every image.
    context.beginPath();
    for (const row of rows) { context.moveTo(0, row); context.lineTo(image.width, row); }
    for (const column of columns) { context.moveTo(column, 0); context.lineTo(column, image.height); }
    context.strokeStyle = color;
    context.lineWidth = width / scale * (window.devicePixelRatio || 1);
    context.stroke();
  }
}

function describe(layer) {
  byId("name").textContent = NAMES[layer];
  byId("layer").setAttribute("aria-valuetext", NAMES[layer]);
  const reduced = image.scale < 1 ? `, shown at ${Math.round(100 * image.scale)} % of its size` : "";
  const words = `${image.stem}: Dice ${image.dice.tiled.toFixed(3)} tiled, ${image.dice.non_tiled.toFixed(3)} non-tiled${reduced}.${missing}`;
  if (byId("about").textContent !== words) byId("about").textContent = words;
  canvas.setAttribute("aria-label", `${image.stem}, ${NAMES[layer]}`);
}

function fit() {
  const box = canvas.getBoundingClientRect();
  view.zoom = Math.min(box.width / image.width, box.height / image.height);
  view.x = image.width / 2;
  view.y = image.height / 2;
  draw();
}

function move(right, down) {
  view.x = Math.min(image.width, Math.max(0, view.x + right / view.zoom));
  view.y = Math.min(image.height, Math.max(0, view.y + down / view.zoom));
  draw();
}

function zoom(factor, right = 0, down = 0) {  // The point this far from the middle stays where it is.
  const before = view.zoom;
  view.zoom = Math.min(40, Math.max(0.05, before * factor));
  view.x += right / before - right / view.zoom;
  view.y += down / before - down / view.zoom;
  move(0, 0);
}

function setLayer(number) { byId("layer").value = number; draw(); }

function setImage(number) {
  const place = (number + IMAGES.length) % IMAGES.length, before = image;
  byId("image").value = place;
  image = IMAGES[place];
  if (before.width === image.width && before.height === image.height) draw(); else fit();
}

const KEYS = {
  ArrowLeft: () => move(-60, 0), ArrowRight: () => move(60, 0), ArrowUp: () => move(0, -60), ArrowDown: () => move(0, 60),
  "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: fit,
  "[": () => setLayer(Number(byId("layer").value) - 1), "]": () => setLayer(Number(byId("layer").value) + 1),
  n: () => setImage(IMAGES.indexOf(image) + 1), p: () => setImage(IMAGES.indexOf(image) - 1), g: () => byId("grid").click(),
};
LAYERS.forEach((_, number) => { KEYS[number + 1] = () => setLayer(number); });

document.addEventListener("keydown", (event) => {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  // Arrows belong to the slider and the list while these have the focus, and so do the letters to the list.
  const taken = event.target.id === "image" || (event.target.id === "layer" && key.startsWith("Arrow"));
  if (!(key in KEYS) || taken || event.ctrlKey || event.metaKey || event.altKey) return;
  if (key.startsWith("Arrow") && event.target !== canvas && event.target !== document.body) return;
  event.preventDefault();
  KEYS[key]();
});

const fromMiddle = (event) => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
};
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 400), ...fromMiddle(event));
}, { passive: false });
canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, event); pinch = 0; });
canvas.addEventListener("pointermove", (event) => {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  fingers.set(event.pointerId, event);
  if (fingers.size === 1) return move(before.clientX - event.clientX, before.clientY - event.clientY);
  const [first, second] = [...fingers.values()];
  const apart = Math.hypot(first.clientX - second.clientX, first.clientY - second.clientY);
  if (pinch) zoom(apart / pinch, ...fromMiddle({ clientX: (first.clientX + second.clientX) / 2, clientY: (first.clientY + second.clientY) / 2 }));
  pinch = apart;
});
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => { fingers.delete(event.pointerId); pinch = 0; });
byId("layer").addEventListener("input", draw);
byId("grid").addEventListener("change", draw);
byId("image").addEventListener("change", () => setImage(Number(byId("image").value)));
byId("in").addEventListener("click", () => zoom(1.25));
byId("out").addEventListener("click", () => zoom(0.8));
byId("fit").addEventListener("click", fit);
window.addEventListener("resize", draw);
fit();
