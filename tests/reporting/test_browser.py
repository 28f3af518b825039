"""The HTML report in a real browser: nothing of a document runs, and everything works without a mouse or a network."""

from __future__ import annotations

import html
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lift_eval.reporting.render import render_experiment, render_results
from tests.conftest import ROOT
from tests.reporting.everything import write_everything
from tests.reporting.helpers import rows, write_run

SCREENSHOTS = ROOT / "build" / "screenshots"
"""Kept for people to look at; `make clean` takes them away."""

ATTACK = "<script>document.documentElement.dataset.attacked = 'yes'</script>"
ATTACKS = (
    ATTACK,
    f"</script>{ATTACK}",
    "<img src=x onerror=\"document.documentElement.dataset.attacked = 'yes'\">",
    f"--></textarea></style>{ATTACK}<!--",
    '"><svg onload="document.documentElement.dataset.attacked = 1">',
)


@pytest.fixture(scope="module")
def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("chromium is not installed (on Debian: apt-get install chromium)")


def run(browser: str, page: Path, profile: Path, *options: str) -> str:
    """Open a page in a browser without window or network, and return what it prints."""
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        f"--user-data-dir={profile}",
        *options,
        page.resolve().as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def without_policy(page: Path) -> Path:
    """A copy of a page that forbids nothing, so that escaping alone must hold."""
    text, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    assert count == 1
    copy = page.with_name("open.html")
    copy.write_text(text)
    return copy


def probe(browser: str, page: Path, profile: Path, script: str, *options: str) -> Any:
    """Run a script in a copy of the page and return what its function ``probe`` returns."""
    copy = without_policy(page)
    helpers = """
      const by = (id) => document.getElementById(id);
      const set = (id, value) => {
        by(id).value = value;
        by(id).dispatchEvent(new Event(by(id).tagName === 'INPUT' ? 'input' : 'change'));
      };
      const count = () => by('count').textContent;
      const questions = () => [...document.querySelectorAll('#list h3')].map((head) => head.textContent);
    """
    answer = f"<script>{helpers} {script}; const made = document.createElement('pre'); made.id = 'probe';"
    answer += (
        "(async () => { made.textContent = JSON.stringify(await probe()); document.body.append(made); })();"
    )
    answer += "</script></body>"
    copy.write_text(copy.read_text().replace("</body>", answer))
    dom = run(browser, copy, profile, "--virtual-time-budget=5000", "--dump-dom", *options)
    found = re.search(r'<pre id="probe">(.*?)</pre>', dom, re.DOTALL)
    assert found, "the page's scripts failed"
    return json.loads(html.unescape(found[1]))


# ------------------------------------------------------------------------------------------------------- untrusted


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A report on documents, questions and answers that try to run scripts."""
    data = rows(1, len(ATTACKS))
    for row, attack in zip(data, ATTACKS, strict=True):
        row.update(
            title=attack, question=attack, answer=attack, type=attack, evidence=[attack], prompt_style=attack
        )
    for name, style in (("icl", ATTACK), ("lora", "tiny")):
        some = [{**row, "prompt_style": style} for row in data]
        write_run(
            tmp_path / "results" / name,
            {f"task{ATTACK.replace('/', '')}": [1, 0, 1, 0, 1]},
            some,
            model_args={"recipe": f"{name}{ATTACK}"},
            recipe={"name": f"{name}{ATTACK}"},
            answer=lambda row, _: str(row["question"]),
            samples=False,
        )
        # A task's name is part of a file name; the samples need one without slashes.
    for name in ("icl", "lora"):
        write_run(
            tmp_path / "more" / name,
            {"task": [1, 0, 1, 0, 1]},
            data,
            model_args={"recipe": f"{name}{ATTACK}"},
            recipe={"name": f"{name}{ATTACK}"},
            answer=lambda row, _: str(row["question"]),
        )
    sources = [tmp_path / "results", tmp_path / "more"]
    return render_results(sources, tmp_path / "out", title=f"Title {ATTACK}", figures=False).page


@pytest.mark.parametrize("policy", [True, False])
def test_nothing_of_a_document_runs(browser: str, hostile: Path, tmp_path: Path, policy: bool) -> None:
    page = hostile if policy else without_policy(hostile)
    dom = run(browser, page, tmp_path / "profile", "--dump-dom")
    assert "data-attacked" not in dom.partition(">")[0] + dom[:500]
    # The browser's own scripts did run, and show the attack as text.
    assert dom.count("<article") == len(ATTACKS)
    assert html.escape(ATTACK, quote=False) in dom
    assert "<img" not in dom
    assert "<svg" not in dom


def test_the_test_would_see_an_attack(browser: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><html><body>{ATTACK}</body></html>")
    assert 'data-attacked="yes"' in run(browser, page, tmp_path / "profile", "--dump-dom")[:500]


def test_the_policy_stops_what_escaping_would_miss(browser: str, hostile: Path, tmp_path: Path) -> None:
    hostile.write_text(hostile.read_text().replace("<main", f"{ATTACK}<main"))
    dom = run(browser, hostile, tmp_path / "profile", "--dump-dom")
    assert "data-attacked" not in dom[:500]
    assert "<article" in dom, "the report's own script is allowed"


# -------------------------------------------------------------------------------------------------- sample browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_experiment(write_everything(tmp_path_factory.mktemp("page"))).page


def test_samples_can_be_filtered_and_searched(browser: str, page: Path, tmp_path: Path) -> None:
    script = """
      function probe() {
        const seen = {all: count(), shown: questions().length};
        set('filter-task', 'loogle_shortqa');
        seen.task = count();
        set('filter-type', 'computation');
        seen.type = count();
        set('filter-q', 'NUMBER 0 OF 1?');
        seen.found = questions();
        set('filter-q', '');
        set('filter-type', '');
        set('filter-task', '');
        const outcomes = {};
        for (const who of ['left', 'right', 'both', 'neither', 'differ']) {
          set('filter-who', who);
          outcomes[who] = Number(count().split(' ')[0].replace(',', ''));
        }
        seen.outcomes = outcomes;
        set('filter-who', 'right');
        const boxes = [...document.querySelector('#list article').querySelectorAll(':scope > .answers > div')];
        seen.boxes = boxes.map((box) => [box.querySelector('h4').firstChild.textContent, box.className]);
        set('filter-q', 'nothing like this');
        seen.none = [count(), questions().length];
        return seen;
      }
    """
    seen = probe(browser, page, tmp_path / "profile", script)
    assert (seen["all"], seen["shown"]) == ("162 of 162 questions", 20)
    assert seen["task"] == "72 of 162 questions"
    assert seen["type"] == "36 of 162 questions"
    assert seen["found"] == ["What is number 0 of 1?"]
    outcomes = seen["outcomes"]
    assert outcomes["left"] + outcomes["right"] == outcomes["differ"] > 0
    assert outcomes["differ"] + outcomes["both"] + outcomes["neither"] == 162
    assert seen["boxes"] == [["Reference", ""], ["ICL", "wrong"], ["LIFT", "right"]]
    assert seen["none"] == ["0 of 162 questions", 0]


def test_samples_are_put_in_order_and_one_document_shown(browser: str, page: Path, tmp_path: Path) -> None:
    script = """
      function probe() {
        const places = () => [...document.querySelectorAll('#list .meta')].flatMap(
          (line) => line.textContent.match(/evidence at (\\d+) %/)?.slice(1).map(Number) ?? []);
        const marks = (side) => document.querySelectorAll('#list .answers > div')[side].className;
        const seen = {};
        set('filter-order', 'place');
        seen.first = places();
        set('filter-order', 'gain');
        seen.gain = [marks(1), marks(2)];
        set('filter-order', 'loss');
        seen.loss = [marks(1), marks(2)];
        const third = [...by('filter-document').options].find((option) => option.textContent === 'Title 3').value;
        set('filter-document', third);
        seen.document = count();
        return seen;
      }
    """
    seen = probe(browser, page, tmp_path / "profile", script)
    assert seen["first"] == sorted(seen["first"]) != []
    assert seen["gain"] == ["wrong", "right"]
    assert seen["loss"] == ["right", "wrong"]
    assert seen["document"] == "12 of 162 questions", "six of each of two tasks"


def test_a_sample_shows_its_prompt_its_metrics_and_how_its_document_was_trained(
    browser: str, page: Path, tmp_path: Path
) -> None:
    script = """
      function probe() {
        const article = document.querySelector('#list article');
        const open = (name) => {
          const named = [...article.querySelectorAll('details')].filter((one) => one.firstChild.textContent === name);
          const found = named.at(-1);
          found.open = true;
          found.dispatchEvent(new Event('toggle'));
          return [...found.children].slice(1).map((child) => child.textContent).join(' | ');
        };
        return [article.querySelector('h3').textContent, article.querySelector('.answers .meta').textContent,
          open('Prompt'), open('Document and training'), article.textContent.includes('()')];
      }
    """
    question, metrics, prompt, training, nothing = probe(browser, page, tmp_path / "profile", script)
    assert metrics in ("exact match 0 · token f1 0", "exact match 1 · token f1 1")
    assert prompt == f"[the document] {question}"
    assert "doc0: 3000 tokens; 5 steps, loss" in training
    assert "Pairs made from it, 50 of 60:" in training
    assert "Who met number 0? → Nobody." in training
    assert not nothing


def test_links_lead_to_a_sample_and_a_filter(browser: str, page: Path, tmp_path: Path) -> None:
    script = """
      async function probe() {
        const moved = () => new Promise((done) =>
          window.addEventListener('hashchange', () => setTimeout(done), { once: true }));
        set('filter-task', 'loogle_longqa');
        set('filter-right', 'Gated Memory, closed book');
        by('next').click();
        const target = document.querySelectorAll('#list article')[2];
        const wanted = [target.querySelector('h3').textContent, count()];
        const link = target.querySelector('a').getAttribute('href');
        set('filter-task', '');
        set('filter-right', 'LIFT');
        const filter = location.hash;
        location.hash = link;
        await moved();
        const found = document.activeElement;
        const there = [found.tagName, found.querySelector('h3').textContent, count(), by('filter-right').value];
        location.hash = '#scores';
        await moved();
        return { wanted, there, filter, after: count() };
      }
    """
    seen = probe(browser, page, tmp_path / "profile", script)
    question, count = seen["wanted"]
    assert seen["there"] == ["ARTICLE", question, count, "Gated Memory, closed book"]
    assert seen["filter"] == "", "nothing stands in the address where nothing is chosen"
    assert seen["after"] == count == "72 of 162 questions", "a link to a section leaves the samples alone"


def test_keys_go_from_question_to_question(browser: str, page: Path, tmp_path: Path) -> None:
    script = """
      function probe() {
        const press = (key, where = document.body) =>
          where.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
        const at = () => [...by('list').children].indexOf(document.activeElement);
        const seen = [];
        for (const key of ['j', 'j', 'k']) { press(key); seen.push(at()); }
        for (let times = 0; times < 20; times += 1) press('j');
        seen.push(at(), by('page').textContent);
        by('filter-q').focus();
        press('j', by('filter-q'));
        seen.push(document.activeElement.id);
        return seen;
      }
    """
    seen = probe(browser, page, tmp_path / "profile", script)
    assert seen == [0, 1, 0, 0, "Page 2 of 9", "filter-q"]


def test_pages_are_turned_and_the_reader_is_taken_along(browser: str, page: Path, tmp_path: Path) -> None:
    script = """
      function probe() {
        const first = questions();
        by('next').click();
        const focused = document.activeElement.tagName;
        const second = questions();
        by('previous').click();
        const back = first[0] === questions()[0];
        return [first[0] === second[0], by('page').textContent, focused, by('previous').disabled, back];
      }
    """
    same, where, focused, at_start, back = probe(browser, page, tmp_path / "profile", script)
    assert (same, where, focused, at_start, back) == (False, "Page 1 of 9", "ARTICLE", True, True)


def test_tables_are_sorted_by_a_button(browser: str, page: Path, tmp_path: Path) -> None:
    script = """
      function probe() {
        const table = document.querySelector('#scores table');
        const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].querySelector('span').textContent);
        const head = table.tHead.rows[0].cells[1];
        const seen = [names()];
        head.querySelector('button').click();
        seen.push([names(), head.getAttribute('aria-sort'),
          [...table.tBodies[0].rows].map((row) => Number(row.cells[1].dataset.order))]);
        head.querySelector('button').click();
        seen.push([names(), head.getAttribute('aria-sort')]);
        return seen;
      }
    """
    before, (falling, state, values), (rising, other_state) = probe(
        browser, page, tmp_path / "profile", script
    )
    assert before == ["ICL (baseline)", "LIFT", "Gated Memory, closed book", "Not yet"]
    assert (state, other_state) == ("descending", "ascending")
    assert values[:3] == sorted(values[:3], reverse=True)
    assert rising[:3] == falling[:3][::-1]
    assert falling[3] == rising[3] == "Not yet", "what has no number stays below"


def test_everything_has_a_name_and_can_be_reached_by_keyboard(
    browser: str, page: Path, tmp_path: Path
) -> None:
    script = """
      const names = [...document.querySelectorAll('section, nav')].map((landmark) =>
        landmark.getAttribute('aria-label') ?? by(landmark.getAttribute('aria-labelledby')).textContent);
      const lacking = (selector, has) => [...document.querySelectorAll(selector)].filter((one) => !has(one)).length;
      function probe() {
        return {
          unlabelled: lacking('#filters input, #filters select', (control) => control.closest('label')),
          imagesWithoutText: lacking('img', (image) => image.alt),
          headsWithoutScope: lacking('th', (head) => head.scope),
          scrollersWithoutFocus: lacking('.scroll', (box) => box.tabIndex === 0),
          landmarksOfOneName: names.length - new Set(names).size + document.querySelectorAll('[role=region]').length,
          live: by('count').getAttribute('aria-live'),
          language: document.documentElement.lang,
          firstLink: document.querySelector('a').getAttribute('href'),
          levels: [...document.querySelectorAll('h1, h2, h3, h4')].map((head) => Number(head.tagName[1])),
        };
      }
    """
    seen = probe(browser, page, tmp_path / "profile", script)
    levels = seen.pop("levels")
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert seen == {
        "unlabelled": 0,
        "imagesWithoutText": 0,
        "headsWithoutScope": 0,
        "scrollersWithoutFocus": 0,
        "landmarksOfOneName": 0,
        "live": "polite",
        "language": "en",
        "firstLink": "#main",
    }


def test_a_phone_shows_legible_figures_and_keeps_the_methods_in_sight(
    browser: str, page: Path, tmp_path: Path
) -> None:
    script = """
      function probe() {
        const box = document.querySelector('#scores .scroll');
        const first = () => box.querySelector('tbody th').getBoundingClientRect().left;
        const before = first();
        box.scrollLeft = 20;
        return { wider: document.documentElement.scrollWidth - innerWidth, moved: first() - before,
          scrolled: box.scrollLeft, figure: document.querySelector('figure img').clientWidth };
      }
    """
    seen = probe(browser, page, tmp_path / "profile", script, "--window-size=500,900")
    assert seen == {"wider": 0, "moved": 0, "scrolled": 20, "figure": 640}


def test_ten_thousand_samples(browser: str, tmp_path: Path) -> None:
    data = rows(100, 100)
    write_run(tmp_path / "results", {"task": [index % 2 for index in range(10_000)]}, data)
    page = render_results([tmp_path / "results"], tmp_path / "out", figures=False).page
    script = """
      function probe() {
        const all = count();
        set('filter-q', 'number 99 of 99?');
        return [all, count(), questions()];
      }
    """
    everything, found, questions = probe(browser, page, tmp_path / "profile", script)
    assert everything == "10,000 of 10,000 questions"
    assert (found, questions) == ("1 of 10,000 questions", ["What is number 99 of 99?"])


def test_runs_without_samples_leave_a_page_that_works(browser: str, tmp_path: Path) -> None:
    write_run(tmp_path / "results", {"task": [1, 0]}, rows(2, 1), samples=False)
    page = render_results([tmp_path / "results"], tmp_path / "out", figures=False).page
    dom = run(browser, page, tmp_path / "profile", "--dump-dom")
    assert "No run kept its samples" in dom
    assert re.search(r'<form id="filters" hidden', dom)


# ------------------------------------------------------------------------------------------------------------ looks


@pytest.mark.parametrize(
    ("name", "options", "paper"),
    [("light", (), (255, 255, 255)), ("dark", ("--force-dark-mode",), (13, 17, 23))],
)
def test_screenshots(
    browser: str, page: Path, tmp_path: Path, name: str, options: tuple[str, ...], paper: tuple[int, int, int]
) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    target = SCREENSHOTS / f"report-{name}.png"
    run(browser, page, tmp_path / "profile", "--window-size=1280,2400", f"--screenshot={target}", *options)
    image = Image.open(target).convert("RGB")
    assert image.size == (1280, 2400)
    assert image.getpixel((2, 2)) == paper
    assert len(image.getcolors(10_000_000)) > 200, "figures and text are there"
