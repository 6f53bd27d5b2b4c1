"use strict";
// Sorting, filtering and refreshing are extras: the page shows everything without them.
(() => {
  const byId = (id) => document.getElementById(id);
  const searched = Number(document.querySelector("table").dataset.searched || 2); // this many columns hold names
  const rows = byId("rows"), filter = byId("filter"), faulty = byId("faulty"), auto = byId("auto");
  const heads = [...document.querySelectorAll("thead th")];
  let order = null; // {column, direction}; null: the server's order, the fullest first

  const valueOf = (row, column) => {
    const text = row.cells[column].dataset.v, number = Number(text);
    return text.trim() === "" || Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", {numeric: true});

  const arrange = () => {
    if (order) {
      const sorted = [...rows.rows].map((row) => [valueOf(row, order.column), row]);
      sorted.sort((a, b) => order.direction * compare(a[0], b[0]));
      rows.append(...sorted.map((each) => each[1]));
    }
    const wanted = filter.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows.rows) {
      row.hidden = (faulty.checked && !row.classList.contains("faulty"))
        || ![...row.cells].slice(0, searched).map((cell) => cell.textContent).join(" ").toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    const text = wanted || faulty.checked ? shown + " of " + rows.rows.length : "";
    if (byId("shown-count").textContent !== text) byId("shown-count").textContent = text;
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const first = column < searched ? 1 : -1; // names ascending, worst state first; amounts descending
      order = {column, direction: order && order.column === column ? -order.direction : first};
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order.direction > 0 ? "ascending" : "descending");
      arrange();
    });
  });
  filter.addEventListener("input", arrange);
  faulty.addEventListener("change", arrange);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("controls").hidden = false;
  document.documentElement.classList.add("scripted");

  const showWarning = (text) => {
    if (byId("lost").textContent !== text) byId("lost").textContent = text;
  };
  const update = (page) => {
    document.title = page.title;
    for (const old of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(old.id);
      if (!fresh || (old.id !== "rows" && fresh.innerHTML === old.innerHTML && fresh.className === old.className)) continue;
      const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      old.className = fresh.className;
      old.replaceChildren(...fresh.childNodes);
      if (focused) [...old.querySelectorAll("a")].find((each) => each.getAttribute("href") === focused)?.focus({preventScroll: true});
    }
    arrange();
  };
  const refresh = async () => {
    if (!auto.checked || document.hidden) return;
    try {
      const answer = await fetch(location.pathname + location.search, {cache: "no-store"});
      if (!answer.ok) throw new Error(String(answer.status));
      update(new DOMParser().parseFromString(await answer.text(), "text/html"));
      showWarning("");
    } catch {
      showWarning("The exporter does not answer. This page shows old numbers and tries again automatically.");
    }
  };
  const schedule = () => setTimeout(() => refresh().finally(schedule), REFRESH_MS);
  schedule();
  document.addEventListener("visibilitychange", refresh);
  auto.addEventListener("change", refresh);
})();
