
"use strict";
(() => {
  // ---------------------------------------------------------------------------------------------- sortable tables

  function compareCells(left, right) {
    const a = left.dataset.order, b = right.dataset.order;
    if (a === "" || b === "") return (a === "") - (b === "") || null;
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  }

  function sortBy(table, index, button) {
    const head = button.closest("th");
    const numeric = index > 0;
    const now = head.getAttribute("aria-sort");
    const next = now === null ? (numeric ? "descending" : "ascending") : now === "ascending" ? "descending" : "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows];
    const empty = (row) => row.cells[index].dataset.order === "";
    // What has no number stays below, whichever way is up.
    rows.sort((a, b) => empty(a) - empty(b) || sign * (compareCells(a.cells[index], b.cells[index]) || 0));
    table.tBodies[0].append(...rows);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sortBy(table, index, button));
      head.replaceChildren(button);
    });
  }

  // ------------------------------------------------------------------------------------------------ sample browser

  const TASK = 0, TITLE = 1, TYPE = 2, QUESTION = 3, REFERENCE = 4, DEPTH = 5, EVIDENCE = 6, ANSWERS = 7, SCORES = 8;
  const PER_PAGE = 20;
  const data = JSON.parse(document.getElementById("data").textContent);
  const by = (id) => document.getElementById(id);
  const controls = {
    q: by("filter-text"), task: by("filter-task"), type: by("filter-type"),
    left: by("filter-left"), right: by("filter-right"), who: by("filter-who"),
  };
  const OUTCOMES = {
    "": "anyone", left: "only the left", right: "only the right", both: "both", neither: "neither", differ: "scores differ",
  };
  let page = 0, hits = [];

  // All text, made once in lower case: a search over 10,000 samples takes some milliseconds.
  const haystack = data.items.map((item) =>
    [item[TITLE], item[QUESTION], item[REFERENCE], ...item[ANSWERS]].join("\n").toLowerCase());

  function element(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function fill(select, options) {
    select.replaceChildren(...options.map(([value, text]) => {
      const option = element("option", text);
      option.value = value;
      return option;
    }));
  }

  function isRight(score) { return score !== null && score >= 0.9999; }

  function outcome(item, wanted) {
    const left = item[SCORES][controls.left.value], right = item[SCORES][controls.right.value];
    if (left === undefined || right === undefined || left === null || right === null) return false;
    switch (wanted) {
      case "left": return isRight(left) && !isRight(right);
      case "right": return isRight(right) && !isRight(left);
      case "both": return isRight(left) && isRight(right);
      case "neither": return !isRight(left) && !isRight(right);
      default: return left !== right;
    }
  }

  function matches(item, index) {
    if (controls.task.value !== "" && item[TASK] !== Number(controls.task.value)) return false;
    if (controls.type.value !== "" && item[TYPE] !== controls.type.value) return false;
    if (controls.who.value !== "" && !outcome(item, controls.who.value)) return false;
    const text = controls.q.value.trim().toLowerCase();
    return text === "" || haystack[index].includes(text);
  }

  function answerBox(item, method) {
    const answer = item[ANSWERS][method], score = item[SCORES][method];
    const kind = score === null || score === undefined ? "" : isRight(score) ? "right" : score === 0 ? "wrong" : "";
    const box = element("div", undefined, kind);
    const head = element("h4", data.methods[method]);
    const says = answer === null ? "not asked" : score === null ? "no score"
      : kind === "right" ? "✓ right" : kind === "wrong" ? "✗ wrong" : `score ${score.toFixed(2)}`;
    head.append(element("span", says, "score"));
    box.append(head);
    if (answer !== null) box.append(element("p", answer, "text"));
    return box;
  }

  function card(item) {
    const made = element("article");
    const parts = [data.tasks[item[TASK]], item[TITLE], item[TYPE].replaceAll("_", " ")];
    if (item[DEPTH] !== null) parts.push(`evidence at ${Math.round(100 * item[DEPTH])} %`);
    made.append(element("p", parts.filter(Boolean).join(" · "), "meta"));
    made.append(element("h3", item[QUESTION] || "(the whole document)"));
    const answers = element("div", undefined, "answers");
    const reference = element("div");
    reference.append(element("h4", "Reference"), element("p", item[REFERENCE], "text"));
    const shown = [...new Set([controls.left.value, controls.right.value])].filter((value) => value !== "").map(Number);
    answers.append(reference, ...shown.map((method) => answerBox(item, method)));
    made.append(answers);
    const others = data.methods.map((_, method) => method)
      .filter((method) => !shown.includes(method) && item[ANSWERS][method] !== null);
    if (others.length) {
      const more = element("details"), boxes = element("div", undefined, "answers");
      boxes.append(...others.map((method) => answerBox(item, method)));
      more.append(element("summary", "Other methods"), boxes);
      made.append(more);
    }
    if (item[EVIDENCE].length) {
      const more = element("details");
      more.append(element("summary", "Evidence"), ...item[EVIDENCE].map((piece) => element("p", piece)));
      made.append(more);
    }
    return made;
  }

  function show() {
    const pages = Math.max(1, Math.ceil(hits.length / PER_PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    by("list").replaceChildren(...hits.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map((index) => card(data.items[index])));
    by("count").textContent = `${hits.length.toLocaleString("en")} of ${data.items.length.toLocaleString("en")} questions`;
    by("page").textContent = `Page ${page + 1} of ${pages}`;
    by("pages").hidden = pages === 1;
    by("previous").disabled = page === 0;
    by("next").disabled = page === pages - 1;
  }

  function update() {
    hits = [];
    data.items.forEach((item, index) => { if (matches(item, index)) hits.push(index); });
    show();
  }

  function types() {
    const task = controls.task.value;
    const found = new Set(data.items.filter((item) => task === "" || item[TASK] === Number(task)).map((item) => item[TYPE]));
    const kept = controls.type.value;
    fill(controls.type, [["", "all"], ...[...found].filter(Boolean).sort().map((type) => [type, type.replaceAll("_", " ")])]);
    if (found.has(kept)) controls.type.value = kept;
  }

  function turn(step) {
    page += step;
    show();
    by("samples").scrollIntoView();
    by("list").querySelector("article")?.setAttribute("tabindex", "-1");
    by("list").querySelector("article")?.focus({ preventScroll: true });
  }

  if (data.items.length === 0) {
    by("count").textContent = "No run kept its samples (--log_samples).";
    return;
  }
  fill(controls.task, [["", "all"], ...data.tasks.map((task, index) => [String(index), task])]);
  const methods = data.methods.map((name, index) => [String(index), name]);
  fill(controls.left, methods);
  fill(controls.right, methods);
  fill(controls.who, Object.entries(OUTCOMES));
  const left = data.baseline === null ? 0 : data.baseline;
  controls.left.value = String(left);
  controls.right.value = String(data.methods.length === 1 ? left : left === 0 ? 1 : 0);
  types();
  by("filters").hidden = false;
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const [name, control] of Object.entries(controls)) {
    control.addEventListener(name === "q" ? "input" : "change", () => {
      page = 0;
      if (name === "task") types();
      update();
    });
  }
  by("previous").addEventListener("click", () => turn(-1));
  by("next").addEventListener("click", () => turn(1));
  update();
})();
