"use strict";
// Draws every chart of the page, again whenever light turns to dark; window.ready resolves when all are drawn.
const charts = JSON.parse(document.getElementById("charts").textContent);
const root = document.documentElement;
const themes = ["system", "light", "dark"];
const button = document.getElementById("theme");
// Text and tables come first; then the charting script, where it is a file of its own; then charts.
const loaded = new Promise((done) => { addEventListener("load", done); }).then(() => {
  const file = CHARTING_FILE; // written in by page.py: an attribute of the page could be injected
  return file && new Promise((done, fail) => {
    const script = document.createElement("script");
    Object.assign(script, { src: file, onload: done, onerror: () => fail(new Error(`${file} is missing`)) });
    document.head.append(script);
  });
});

function themed(spec) {
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const text = colour("--text"), faint = colour("--faint"), line = colour("--line");
  const ours = {
    background: "transparent",
    view: { stroke: "transparent" },
    axis: { labelColor: faint, titleColor: text, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 13 },
    legend: { labelColor: text, titleColor: text, labelFontSize: 12, labelLimit: 400, orient: "bottom", columns: 2 },
    text: { color: text },
    title: { color: text, subtitleColor: faint, anchor: "start", fontSize: 14 },
    header: { labelColor: text, titleColor: text },
  };
  return { ...spec, config: { ...ours, ...(spec.config || {}) } };
}

// ast: expressions are interpreted and not compiled, which the page's policy forbids.
function drawOne(id) {
  return vegaEmbed(document.getElementById(id), themed(charts[id]), { actions: false, ast: true, renderer: "svg", tooltip: { theme: "custom" } });
}

async function draw() {
  for (const id of Object.keys(charts)) await drawOne(id);
}

function setTheme(name) {
  if (name === "system") delete root.dataset.theme;
  else root.dataset.theme = name;
  button.textContent = `theme: ${name}`;
}

button.addEventListener("click", () => {
  const next = themes[(themes.indexOf(root.dataset.theme || "system") + 1) % themes.length];
  setTheme(next);
  window.ready = loaded.then(draw);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { window.ready = loaded.then(draw); });
window.ready = loaded.then(draw);
