"""A report in a browser: nothing is asked of any network, nothing overflows a phone, tables sort by mouse and keys."""

import shutil

import pytest
from made_runs import SEVERAL, SINGLE, make_run

from tlkit.delivery.report import write_report
from tlkit.delivery.side_by_side import write_side_by_side
from tlkit.tasks import Task

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--no-first-run"]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report of several tasks, one of names that are hard to lay out, and a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    twin = {"path": "00000.png", "other": "00001.png", "kind": "leak", "problem": "x" * 300, "left_out": False}
    long = {"label": Task("single_label", ("n" * 120, "قطة " * 30, *(f"class {k}" for k in range(18))))}
    one, two = make_run(folder / "one", seed=1), make_run(folder / ("two" * 40))
    return {
        "several": write_report(make_run(folder / "several", SEVERAL, findings=[twin] * 12)),
        "long": write_report(make_run(folder / "long", long, count=60)),
        "compared": write_side_by_side([one, two], folder / "compared.html"),
        "sorted": write_report(make_run(folder / "sorted", SINGLE)),
    }


@pytest.fixture
def open_page(browser, pages):
    """Function that opens a page and returns it; what it said or asked for is checked when the test is over."""
    contexts, said, asked = [], [], []

    def open_one(name, **settings):
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(pages[name].as_uri())
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("name", ["several", "long", "compared", "sorted"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(open_page, name, scheme):
    page = open_page(name, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    for details in page.query_selector_all("details"):
        details.evaluate("element => { element.open = true; }")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > 391 "
        "&& !e.closest('.scroll, pre')).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide == []


def test_text_stands_out_in_both_schemes(open_page):
    """Contrast of the text to its card, by the formula of WCAG 2.1, at least 4.5."""
    contrast = """() => {
      const light = (text) => {
        const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((v) => v / 255)
          .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const card = light(getComputedStyle(document.querySelector("section")).backgroundColor);
      const selectors = ["h1", "section p", "td", "th small", "figcaption", "svg text", ".good", ".care", ".bad"];
      return selectors.map((selector) => {
        const element = document.querySelector(selector.startsWith(".") ? ".badge" : selector);
        if (selector.startsWith(".")) element.className = `badge ${selector.slice(1)}`;
        const style = getComputedStyle(element);
        const ink = light(element.tagName === "text" ? style.fill : style.color);
        const own = selector.startsWith(".") ? light(style.backgroundColor) : card;
        return (Math.max(ink, own) + 0.05) / (Math.min(ink, own) + 0.05);
      });
    }"""
    for scheme in ("light", "dark"):
        assert min(open_page("sorted", color_scheme=scheme).evaluate(contrast)) >= 4.5


def test_a_table_sorts_by_mouse_and_by_keys(open_page):
    page = open_page("sorted")
    table = page.locator("table.per-class")
    f1 = table.locator("thead th").last

    def column():
        return [float(text) for text in table.locator("tbody tr td:last-child data").all_inner_texts()]

    before = column()
    assert f1.get_attribute("aria-sort") is None
    f1.locator("button").click()
    assert column() == sorted(before)
    assert f1.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")  # the button has the focus
    assert column() == sorted(before, reverse=True)
    assert f1.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    recall = table.locator("thead th").nth(3)
    assert recall.get_attribute("aria-sort") == "ascending"
    assert f1.get_attribute("aria-sort") is None
    name = table.locator("thead th").first
    name.locator("button").click()
    assert table.locator("tbody th").all_inner_texts() == ["ant", "bee", "wasp"]
    name.locator("button").click()
    assert table.locator("tbody th").all_inner_texts() == ["wasp", "bee", "ant"]


def test_without_scripts_all_is_there(open_page):
    page = open_page("sorted", java_script_enabled=False)
    assert page.locator("table.per-class tbody tr").count() == 3
    assert page.locator("th button").count() == 0
    assert page.locator("table.per-class thead th").first.inner_text() == "class"


def test_paper_shows_what_is_folded_and_is_light(open_page):
    page = open_page("sorted", color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#repeat details[open]").count() == 2
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(0, 0, 0)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#repeat details[open]").count() == 0


def test_all_pictures_are_drawn(open_page):
    page = open_page("several")
    page.evaluate("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    assert page.evaluate("document.images.length") > 20
    assert page.evaluate("[...document.images].filter((image) => !image.naturalWidth).length") == 0
