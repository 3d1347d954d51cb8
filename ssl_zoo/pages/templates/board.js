"use strict";
// Sorting, filtering and copying; every control is a button, an input or a select, so that keys work by themselves.
(() => {
  const table = document.getElementById("standings");
  if (!table) return;
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], status = document.getElementById("status");
  const rows = [...body.rows];

  // Numbers by their value, words by the alphabet; cells without a result stay at the end both ways.
  function sort(head) {
    const at = heads.indexOf(head), number = head.dataset.type === "number";
    const first = head.dataset.first, other = first === "ascending" ? "descending" : "ascending";
    const way = head.getAttribute("aria-sort") === first ? other : first;
    const sign = way === "ascending" ? 1 : -1;
    const value = (row) => row.cells[at].dataset.value;
    rows.sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (number ? x - y : x.localeCompare(y));
    });
    body.append(...rows);
    for (const one of heads) one.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", way);
    say(`sorted by ${head.dataset.title}, ${way}`);
  }

  function filter() {
    const words = document.getElementById("words").value.toLowerCase().split(/\s+/);
    const role = document.getElementById("role").value, backbone = document.getElementById("backbone").value;
    for (const row of rows) {
      const text = row.dataset.text.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word)) || (role && row.dataset.role !== role)
        || (backbone && row.dataset.backbone !== backbone);
    }
    say();
  }

  function say(more) {
    const seen = rows.filter((row) => !row.hidden).length;
    status.textContent = `${seen} of ${rows.length} lines${more ? ", " + more : ""}`;
  }

  for (const head of heads) head.querySelector("button")?.addEventListener("click", () => sort(head));
  for (const id of ["words", "role", "backbone"]) document.getElementById(id).addEventListener("input", filter);
  filter(); // a browser may have kept what was typed before a reload

  // Pages from disk may have no navigator.clipboard, or one that refuses.
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = document.createElement("textarea"), was = document.activeElement;
      area.value = text;
      area.style.cssText = "position:fixed;opacity:0";
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      was?.focus();
      return done;
    }
  }

  for (const button of document.querySelectorAll("button.copy")) {
    const name = button.textContent;
    button.addEventListener("click", async () => {
      button.textContent = (await copy(button.dataset.copy)) ? "copied" : "select it by hand";
      setTimeout(() => { button.textContent = name; }, 1500);
    });
  }

  // A link to a line's details opens them.
  function open() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target instanceof HTMLDetailsElement) {
      target.open = true;
      target.scrollIntoView();
      target.querySelector("summary").focus({ preventScroll: true });
    }
  }
  addEventListener("hashchange", open);
  open();
})();
