
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

  // ------------------------------------------------------------------------------------------------ classes of methods

  for (const classes of document.querySelectorAll("fieldset.classes")) {
    const rows = [...classes.parentElement.querySelector("tbody").rows];
    classes.hidden = false;
    classes.addEventListener("change", () => {
      const shown = [...classes.querySelectorAll("input:checked")].map((box) => box.value);
      for (const row of rows) row.hidden = row.dataset.class !== "" && !shown.includes(row.dataset.class);
    });
  }

  // ------------------------------------------------------------------------------------------------ sample browser

  // Places in an item; the last three hold one value for each method.
  const TASK = 0, DOCUMENT = 1, KEY = 2, TYPE = 3, QUESTION = 4, REFERENCE = 5, DEPTH = 6, EVIDENCE = 7,
    ANSWERS = 8, VALUES = 9, PROMPTS = 10;
  const QUESTION_MARK = "\ufffc", PER_PAGE = 20, MOST_DOCUMENTS = 1000;
  const data = JSON.parse(document.getElementById("data").textContent);
  const by = (id) => document.getElementById(id);
  const controls = Object.fromEntries(
    ["q", "task", "document", "type", "left", "right", "who", "order"].map((name) => [name, by(`filter-${name}`)]));
  const OUTCOMES = {
    "": "any", left: "left only", right: "right only", both: "both", neither: "neither", differ: "scores differ",
  };
  const ORDERS = {
    "": ["original", () => 0],
    gain: ["right minus left, highest first", (item) => -difference(item)],
    loss: ["right minus left, lowest first", (item) => difference(item)],
    place: ["position of the answer", (item) => item[DEPTH] ?? NaN],
    length: ["document length", (item) => data.documents[item[DOCUMENT]].tokens ?? NaN],
  };
  let page = 0, hits = [], defaults = {};

  // All text, made once in lower case: a search over 10,000 samples takes some milliseconds.
  const haystack = data.items.map((item) =>
    [data.documents[item[DOCUMENT]].title, item[QUESTION], item[REFERENCE], ...item[ANSWERS]].join("\n").toLowerCase());

  function element(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  // What is folded up is made when it is opened.
  function folded(summary, make) {
    const made = element("details");
    made.append(element("summary", summary));
    made.addEventListener("toggle", () => made.append(...make()), { once: true });
    return made;
  }

  function fill(select, options) {
    select.replaceChildren(...options.map(([value, text]) => {
      const option = element("option", text);
      option.value = value;
      return option;
    }));
  }

  const words = (name) => name.replaceAll("_", " ");
  const isRight = (score) => score !== null && score >= 0.9999;
  const scoreOf = (item, method) => item[VALUES][method]?.[0] ?? null;
  const shownMethods = () => [...new Set([controls.left.value, controls.right.value])].map((name) => data.methods.indexOf(name));

  function difference(item) {
    const [left, right] = [controls.left, controls.right].map((control) => scoreOf(item, data.methods.indexOf(control.value)));
    return left === null || right === null ? NaN : right - left;
  }

  function outcome(item, wanted) {
    const [left, right] = [controls.left, controls.right].map((control) => scoreOf(item, data.methods.indexOf(control.value)));
    if (left === null || right === null) return false;
    switch (wanted) {
      case "left": return isRight(left) && !isRight(right);
      case "right": return isRight(right) && !isRight(left);
      case "both": return isRight(left) && isRight(right);
      case "neither": return !isRight(left) && !isRight(right);
      default: return left !== right;
    }
  }

  function matches(item, index) {
    const { task, document, type, who, q } = controls;
    if (task.value !== "" && data.tasks[item[TASK]] !== task.value) return false;
    if (document.value !== "" && data.documents[item[DOCUMENT]].key !== document.value) return false;
    if (type.value !== "" && item[TYPE] !== type.value) return false;
    if (who.value !== "" && !outcome(item, who.value)) return false;
    const text = q.value.trim().toLowerCase();
    return text === "" || haystack[index].includes(text);
  }

  // ------------------------------------------------------------------------------------------------ one question

  function answerBox(item, method) {
    const answer = item[ANSWERS][method], score = scoreOf(item, method);
    const kind = score === null ? "" : isRight(score) ? "right" : score === 0 ? "wrong" : "";
    const box = element("div", undefined, kind);
    const head = element("h4", data.methods[method]);
    const says = answer === null ? "not asked" : score === null ? "no score"
      : kind === "right" ? "✓ right" : kind === "wrong" ? "✗ wrong" : `score ${score.toFixed(2)}`;
    head.append(element("span", says, "score"));
    box.append(head);
    if (answer === null) return box;
    box.append(element("p", answer, "text"));
    const values = data.metrics[item[TASK]].map((name, place) => [words(name), item[VALUES][method][place]]);
    const known = values.filter(([, value]) => value !== null).map(([name, value]) => `${name} ${Number(value.toFixed(3))}`);
    if (known.length > 1) box.append(element("p", known.join(" · "), "meta"));
    const prompt = item[PROMPTS][method];
    if (prompt !== null) {
      box.append(folded("Prompt", () => [element("p", data.prompts[prompt].replaceAll(QUESTION_MARK, () => item[QUESTION]), "text")]));
    }
    return box;
  }

  function ofDocument(item, methods) {
    return methods.flatMap((method) => {
      const record = data.documents[item[DOCUMENT]].records[method];
      if (!record) return [];
      const [summary, pairs, count] = record;
      const made = [element("h4", data.methods[method]), element("p", summary)];
      if (pairs === null) return made;
      const list = element("ul");
      list.append(...data.pairs[pairs].map(([question, answer]) => element("li", `${question} → ${answer}`)));
      const shown = data.pairs[pairs].length;
      return [...made, element("p", `Pairs generated from it${shown < count ? ` (${shown} of ${count})` : ""}:`), list];
    });
  }

  function card(item) {
    const made = element("article");
    const { title, tokens, records } = data.documents[item[DOCUMENT]];
    const parts = [data.tasks[item[TASK]], title, tokens && `${tokens.toLocaleString("en")} tokens`, words(item[TYPE])];
    if (item[DEPTH] !== null) parts.push(`evidence at ${Math.round(100 * item[DEPTH])} %`);
    const about = element("p", `${parts.filter(Boolean).join(" · ")} · `, "meta");
    const link = element("a", "link");
    link.href = `#${fragment(item[KEY])}`;
    link.setAttribute("aria-label", `Link to this question: ${item[QUESTION]}`);
    about.append(link);
    made.append(about, element("h3", item[QUESTION] || "(the whole document)"));
    const answers = element("div", undefined, "answers"), reference = element("div");
    reference.append(element("h4", "Reference"), element("p", item[REFERENCE], "text"));
    const shown = shownMethods();
    answers.append(reference, ...shown.map((method) => answerBox(item, method)));
    made.append(answers);
    const others = data.methods.map((_, method) => method)
      .filter((method) => !shown.includes(method) && item[ANSWERS][method] !== null);
    if (others.length) {
      made.append(folded("Other methods", () => {
        const boxes = element("div", undefined, "answers");
        boxes.append(...others.map((method) => answerBox(item, method)));
        return [boxes];
      }));
    }
    if (item[EVIDENCE].length) {
      made.append(folded("Evidence", () => item[EVIDENCE].map((piece) => element("p", piece))));
    }
    if (shown.some((method) => records[method])) {
      made.append(folded("Document and training", () => ofDocument(item, shown)));
    }
    return made;
  }

  // -------------------------------------------------------------------------------------------- the list of questions

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
    const order = data.items.map(ORDERS[controls.order.value][1]);
    hits = data.items.map((_, index) => index).filter((index) => matches(data.items[index], index));
    hits.sort((a, b) => Number.isNaN(order[a]) - Number.isNaN(order[b]) || order[a] - order[b] || a - b);
    page = 0;
    show();
  }

  function types() {
    const task = controls.task.value;
    const found = new Set(data.items.filter((item) => task === "" || data.tasks[item[TASK]] === task).map((item) => item[TYPE]));
    const kept = controls.type.value;
    fill(controls.type, [["", "all"], ...[...found].filter(Boolean).sort().map((type) => [type, words(type)])]);
    if (found.has(kept)) controls.type.value = kept;
  }

  function focusOn(hit) {
    if (Math.floor(hit / PER_PAGE) !== page) {
      page = Math.floor(hit / PER_PAGE);
      show();
    }
    const article = by("list").children[hit % PER_PAGE];
    article?.setAttribute("tabindex", "-1");
    article?.focus();
  }

  function step(places) {
    const focused = [...by("list").children].findIndex((article) => article.contains(document.activeElement));
    const hit = focused < 0 ? page * PER_PAGE : page * PER_PAGE + focused + places;
    if (hit >= 0 && hit < hits.length) focusOn(hit);
  }

  // ------------------------------------------------------------------------------------------------ links

  function fragment(sample) {
    const params = new URLSearchParams(Object.entries(controls)
      .filter(([name, control]) => control.value !== defaults[name]).map(([name, control]) => [name, control.value]));
    if (sample) params.set("sample", sample);
    return params.toString();
  }

  // The hash of a link to a section, such as #figures, leaves the browser as it is.
  function follow() {
    const params = new URLSearchParams(location.hash.slice(1));
    if (!["sample", ...Object.keys(controls)].some((name) => params.has(name))) return;
    for (const [name, control] of Object.entries(controls)) {
      control.value = params.get(name) ?? defaults[name];
      if (control.selectedIndex === -1) control.value = defaults[name];
      if (name === "task") types();
    }
    update();
    const hit = hits.findIndex((index) => data.items[index][KEY] === params.get("sample"));
    if (hit >= 0) focusOn(hit);
    else by("samples").scrollIntoView();
  }

  // ------------------------------------------------------------------------------------------------ begin

  if (data.items.length === 0) {
    by("count").textContent = "No run logged its samples (--log_samples).";
    return;
  }
  fill(controls.task, [["", "all"], ...data.tasks.map((task) => [task, task])]);
  fill(controls.document, [["", "all"], ...data.documents.slice(0, MOST_DOCUMENTS).map(({ key, title }) => [key, title])]);
  for (const control of [controls.left, controls.right]) fill(control, data.methods.map((name) => [name, name]));
  fill(controls.who, Object.entries(OUTCOMES));
  fill(controls.order, Object.entries(ORDERS).map(([value, [text]]) => [value, text]));
  const left = data.baseline ?? 0;
  controls.left.value = data.methods[left];
  controls.right.value = data.methods[data.methods.length === 1 ? left : left === 0 ? 1 : 0];
  types();
  defaults = Object.fromEntries(Object.entries(controls).map(([name, control]) => [name, control.value]));
  by("filters").hidden = by("keys").hidden = false;
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const [name, control] of Object.entries(controls)) {
    control.addEventListener(name === "q" ? "input" : "change", () => {
      if (name === "task") types();
      update();
      history.replaceState(null, "", `#${fragment()}`);
    });
  }
  for (const button of document.querySelectorAll("button.side")) {
    button.hidden = !data.methods.includes(button.dataset.method);
    button.addEventListener("click", () => {
      controls[button.dataset.side].value = button.dataset.method;
      update();
      history.replaceState(null, "", `#${fragment()}`);
      by("samples").scrollIntoView();
    });
  }
  by("previous").addEventListener("click", () => focusOn((page - 1) * PER_PAGE));
  by("next").addEventListener("click", () => focusOn((page + 1) * PER_PAGE));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
    if (event.key === "j") step(1);
    if (event.key === "k") step(-1);
  });
  window.addEventListener("hashchange", follow);
  update();
  follow();
})();
