"""The HTML report in a real browser: nothing of a document runs, and everything works without a mouse or a network."""

from __future__ import annotations

import html
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from lift_eval.reporting.figures.render_pool import RenderPool
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


Open = Callable[..., Page]
"""Opens a page of a report; options are those of the browser's context, e.g. ``color_scheme``."""

DESK: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
HELPERS = """
  const by = (id) => document.getElementById(id);
  const set = (id, value) => {
    by(id).value = value;
    by(id).dispatchEvent(new Event(by(id).tagName === 'INPUT' ? 'input' : 'change'));
  };
  const count = () => by('count').textContent;
  const questions = () => [...document.querySelectorAll('#list h3')].map((head) => head.textContent);
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window: the machine's, else the one that playwright has installed."""
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        found = (
            shutil.which("chromium") or shutil.which("google-chrome") or (str(own) if own.is_file() else None)
        )
        if found is None:
            pytest.skip("no browser; `apt-get install chromium`, or `playwright install chromium`")
        with playwright.chromium.launch(executable_path=found, args=["--no-sandbox"]) as launched:
            yield launched


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Opens pages without a network, each in a context of its own; a fault in a page's script fails the test."""
    contexts, faults = [], []

    def opened(page: Path, **options: Any) -> Page:
        contexts.append(browser.new_context(offline=True, **{"viewport": DESK, **options}))
        tab = contexts[-1].new_page()
        tab.on("pageerror", lambda fault: faults.append(fault))
        tab.goto(page.resolve().as_uri())
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert not faults


def probe(tab: Page, script: str) -> Any:
    """What a script's function ``probe`` returns."""
    return tab.evaluate(f"() => {{ {HELPERS} {script}; return probe(); }}")


def unfold(tab: Page) -> None:
    """Open all that is folded up, which shows what only then is made."""
    tab.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true; })")


def attacked(tab: Page) -> bool:
    return tab.evaluate("() => 'attacked' in document.documentElement.dataset")


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
    return render_results(sources, tmp_path / "out", title=f"Title {ATTACK}").page


@pytest.mark.parametrize("policy", [True, False])
def test_nothing_of_a_document_runs(visit: Open, hostile: Path, policy: bool) -> None:
    tab = visit(hostile, bypass_csp=not policy)
    assert not attacked(tab)
    # The page's own scripts did run, and show the attack as text.
    assert tab.locator("article").count() == len(ATTACKS)
    assert html.escape(ATTACK, quote=False) in tab.content()
    assert tab.locator("img, svg").count() == 0


@pytest.mark.parametrize("policy", [True, False])
def test_the_policy_stops_what_escaping_would_miss(visit: Open, hostile: Path, policy: bool) -> None:
    hostile.write_text(hostile.read_text().replace("<main", f"{ATTACK}<main"))
    tab = visit(hostile, bypass_csp=not policy)
    assert attacked(tab) is not policy
    assert tab.locator("article").count() == len(ATTACKS), "the report's own script is allowed"


# -------------------------------------------------------------------------------------------------- sample browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with RenderPool() as pool:
        return render_experiment(write_everything(tmp_path_factory.mktemp("page")), pool=pool).page


def test_samples_can_be_filtered_and_searched(visit: Open, page: Path) -> None:
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
    seen = probe(visit(page), script)
    assert (seen["all"], seen["shown"]) == ("162 of 162 questions", 20)
    assert seen["task"] == "72 of 162 questions"
    assert seen["type"] == "36 of 162 questions"
    assert seen["found"] == ["What is number 0 of 1?"]
    outcomes = seen["outcomes"]
    assert outcomes["left"] + outcomes["right"] == outcomes["differ"] > 0
    assert outcomes["differ"] + outcomes["both"] + outcomes["neither"] == 162
    assert seen["boxes"] == [["Reference", ""], ["ICL", "wrong"], ["LIFT", "right"]]
    assert seen["none"] == ["0 of 162 questions", 0]


def test_samples_are_put_in_order_and_one_document_shown(visit: Open, page: Path) -> None:
    script = """
      function probe() {
        const places = () => [...document.querySelectorAll('#list .meta')].flatMap(
          (line) => line.textContent.match(/evidence at (\\d+) %/)?.slice(1).map(Number) ?? []);
        const marks = (side) => document.querySelectorAll('#list .answers > div')[side].className;
        const seen = {};
        set('filter-order', 'place');
        seen.first = places();
        set('filter-order', 'length');
        seen.lengths = [...document.querySelectorAll('#list .meta')].flatMap(
          (line) => line.textContent.match(/([\\d,]+) tokens/)?.slice(1) ?? []);
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
    seen = probe(visit(page), script)
    assert seen["first"] == sorted(seen["first"]) != []
    lengths = [int(count.replace(",", "")) for count in seen["lengths"]]
    assert lengths == sorted(lengths)
    assert lengths[0] == 1000, "a document of the last task"
    assert seen["gain"] == ["wrong", "right"]
    assert seen["loss"] == ["right", "wrong"]
    assert seen["document"] == "12 of 162 questions", "six of each of two tasks"


def test_a_sample_shows_its_prompt_its_metrics_and_how_its_document_was_trained(
    visit: Open, page: Path
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
    question, metrics, prompt, training, nothing = probe(visit(page), script)
    assert metrics in ("exact match 0 · token f1 0", "exact match 1 · token f1 1")
    assert prompt == f"[the document] {question}"
    assert "doc0: 3,000 tokens; 5 steps, loss" in training
    assert "Pairs generated from it (50 of 60):" in training
    assert "Who met number 0? → Nobody." in training
    assert not nothing


def test_a_link_leads_to_a_sample_and_its_filter(visit: Open, page: Path) -> None:
    tab = visit(page)
    tab.locator("#filter-task").select_option("loogle_longqa")
    tab.locator("#filter-right").select_option("Gated Memory, closed book")
    tab.get_by_role("button", name="Next").click()
    target = tab.locator("#list article").nth(2)
    question = target.locator("h3").inner_text()
    target.get_by_role("link").click()
    other = visit(page)
    other.goto(tab.url)
    assert other.locator("article:focus h3").inner_text() == question
    assert other.locator("#count").inner_text() == "72 of 162 questions"
    assert other.locator("#filter-right").input_value() == "Gated Memory, closed book"
    other.goto(f"{page.resolve().as_uri()}#scores")
    assert other.locator("#count").inner_text() == "72 of 162 questions", (
        "a link to a section chooses nothing"
    )


def test_a_filter_stands_in_the_address_and_is_there_again_after_a_reload(visit: Open, page: Path) -> None:
    tab = visit(page)
    tab.locator("#filter-q").fill("number 0 of 1?")
    tab.locator("#filter-task").select_option("loogle_longqa")
    assert tab.url.endswith("#q=number+0+of+1%3F&task=loogle_longqa")
    tab.reload()
    assert tab.locator("#filter-q").input_value() == "number 0 of 1?"
    assert tab.locator("#list h3").all_inner_texts() == ["What is number 0 of 1?"]
    tab.locator("#filter-q").fill("")
    tab.locator("#filter-task").select_option("all")
    assert tab.url.endswith(".html#"), "nothing stands in the address where nothing is chosen"


def test_keys_go_from_question_to_question(visit: Open, page: Path) -> None:
    tab = visit(page)

    def at() -> int:
        return tab.evaluate(
            "() => [...document.querySelectorAll('#list article')].indexOf(document.activeElement)"
        )

    seen = []
    for key in "jjk":
        tab.keyboard.press(key)
        seen.append(at())
    assert seen == [0, 1, 0]
    for _ in range(20):
        tab.keyboard.press("j")
    assert (at(), tab.locator("#page").inner_text()) == (0, "Page 2 of 9")
    tab.keyboard.press("k")
    assert (at(), tab.locator("#page").inner_text()) == (19, "Page 1 of 9")
    tab.locator("#filter-q").press("j")
    assert tab.locator("#filter-q").input_value() == "j", "a key that is typed is a letter"


def test_pages_are_turned_and_the_reader_is_taken_along(visit: Open, page: Path) -> None:
    tab = visit(page)
    questions, where = tab.locator("#list h3"), tab.locator("#page")
    next_page, previous = (tab.get_by_role("button", name=name) for name in ("Next", "Previous"))
    first = questions.first.inner_text()
    next_page.click()
    assert where.inner_text() == "Page 2 of 9"
    assert tab.locator("article:focus h3").inner_text() == questions.first.inner_text() != first
    previous.click()
    assert (where.inner_text(), questions.first.inner_text()) == ("Page 1 of 9", first)
    assert previous.is_disabled()


def test_tables_are_sorted_by_a_button(visit: Open, page: Path) -> None:
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
    before, (falling, state, values), (rising, other_state) = probe(visit(page), script)
    assert before == ["ICL (baseline)", "LIFT", "Gated Memory, closed book", "Not yet"]
    assert (state, other_state) == ("descending", "ascending")
    assert values[:3] == sorted(values[:3], reverse=True)
    assert rising[:3] == falling[:3][::-1]
    assert falling[3] == rising[3] == "Not yet", "what has no number stays below"


def test_methods_are_filtered_by_where_they_put_the_document(visit: Open, page: Path) -> None:
    tab = visit(page)
    shown = "#scores tbody tr:not([hidden]) th"
    methods = tab.locator(shown).count()
    tab.locator("#scores fieldset.classes input[value=weights]").uncheck()
    names = tab.locator(shown).all_inner_texts()
    assert len(names) < methods
    assert not any(name.startswith("LIFT") for name in names)
    assert any(name.startswith("ICL") for name in names)
    tab.locator("#scores fieldset.classes input[value=weights]").check()
    assert tab.locator(shown).count() == methods


def test_a_method_tells_its_recipe_and_shows_its_answers_beside_anothers(visit: Open, page: Path) -> None:
    tab = visit(page)
    told = tab.locator("#scores details.recipe", has_text="recipe lora")
    told.locator("summary").click()
    assert "adapter.type: none → lora" in told.inner_text()
    tab.locator("#scores button[data-side=right][data-method='Gated Memory, closed book']").evaluate(
        "b => b.click()"
    )
    assert tab.locator("#filter-right").input_value() == "Gated Memory, closed book"
    assert "right=Gated" in tab.url


def test_everything_has_a_name_and_can_be_reached_by_keyboard(visit: Open, page: Path) -> None:
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
    seen = probe(visit(page), script)
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


def test_a_phone_shows_legible_figures_and_keeps_the_methods_in_sight(visit: Open, page: Path) -> None:
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
    tab = visit(page, viewport=PHONE)
    unfold(tab)
    assert probe(tab, script) == {"wider": 0, "moved": 0, "scrolled": 20, "figure": 640}


@pytest.mark.parametrize(("viewport", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["desk", "phone"])
def test_axe_finds_nothing(visit: Open, page: Path, viewport: ViewportSize, scheme: str) -> None:
    tab = visit(page, viewport=viewport, color_scheme=scheme)
    unfold(tab)
    found = Axe().run(tab).response
    assert "color-contrast" in {rule["id"] for rule in found["passes"]}
    assert {rule["id"]: [node["html"] for node in rule["nodes"]] for rule in found["violations"]} == {}


def test_ten_thousand_samples(visit: Open, tmp_path: Path) -> None:
    data = rows(100, 100)
    write_run(tmp_path / "results", {"task": [index % 2 for index in range(10_000)]}, data)
    page = render_results([tmp_path / "results"], tmp_path / "out").page
    script = """
      function probe() {
        const all = count();
        set('filter-q', 'number 99 of 99?');
        return [all, count(), questions()];
      }
    """
    everything, found, questions = probe(visit(page), script)
    assert everything == "10,000 of 10,000 questions"
    assert (found, questions) == ("1 of 10,000 questions", ["What is number 99 of 99?"])


def test_runs_without_samples_leave_a_page_that_works(visit: Open, tmp_path: Path) -> None:
    write_run(tmp_path / "results", {"task": [1, 0]}, rows(2, 1), samples=False)
    tab = visit(render_results([tmp_path / "results"], tmp_path / "out").page)
    assert "No run logged its samples" in tab.locator("#count").inner_text()
    assert tab.locator("#filters").is_hidden()


# ------------------------------------------------------------------------------------------------------------ looks


@pytest.mark.parametrize(("scheme", "paper"), [("light", (255, 255, 255)), ("dark", (13, 17, 23))])
def test_screenshots(visit: Open, page: Path, scheme: str, paper: tuple[int, int, int]) -> None:
    target = SCREENSHOTS / f"report-{scheme}.png"
    visit(page, viewport={"width": 1280, "height": 2400}, color_scheme=scheme).screenshot(path=target)
    image = Image.open(target).convert("RGB")
    assert image.size == (1280, 2400)
    assert image.getpixel((2, 2)) == paper
    assert len(image.getcolors(10_000_000)) > 200, "figures and text are there"
