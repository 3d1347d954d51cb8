"use strict";
const layout = document.getElementById("layout");
if (layout) layout.addEventListener("change", () => {
  charts.map.params[0].value = layout.value;
  window.ready = drawOne("map");
});
// A text's tokens are one stop of the tab key; arrows go from token to token.
for (const box of document.querySelectorAll(".tokens[role=listbox]")) {
  const all = [...box.querySelectorAll("[role=option]")], said = box.nextElementSibling;
  const tell = (token) => {
    said.textContent = `“${token.textContent}” ${(100 * token.dataset.p).toFixed(1)} %; likeliest: ${token.dataset.likely}`;
  };
  all.forEach((token, i) => {
    token.addEventListener("mouseenter", () => tell(token));
    token.addEventListener("focus", () => {
      for (const other of all) { other.tabIndex = -1; other.setAttribute("aria-selected", other === token); }
      token.tabIndex = 0;
      tell(token);
    });
    token.addEventListener("click", () => token.focus());
    token.addEventListener("keydown", (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: all.length - 1 }[event.key];
      if (to === undefined || !all[to]) return;
      event.preventDefault();
      all[to].focus();
    });
  });
}
