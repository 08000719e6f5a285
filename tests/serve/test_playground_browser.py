"""What somebody with a browser can do on the page: a real one, headless, against a real server."""

import contextlib
import re
import shutil
import time

import pytest
import tiny
import torch

from unison.data import train_tokenizer
from unison.language_model import Defaults, LanguageModel
from unison.models import Transformer
from unison.process import PROCESSES

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
pytest.importorskip("playwright")

from fastapi import FastAPI, Request
from playwright.sync_api import expect, sync_playwright
from served import listening, running

from unison.serve.http import failures
from unison.serve.http.errors import problem
from unison.serve.playground import router
from unison.serve.service import Hosted
from unison.serve.settings import Settings

EVIL = "<script>window.hit=1</script><img src=x onerror='window.hit=1'>"
KEY = "sk-of-the-test"
CHROMIUM = shutil.which("chromium")
expect.set_options(timeout=15_000)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium to open the page in")


def _model(family: str, pause: float = 0.0):
    """A model that reads any text; each evaluation takes a moment, as a large one's would."""
    tokenizer = train_tokenizer("byte", [tiny.TEXT])
    process = PROCESSES[tiny.FAMILIES[family]](tokenizer.vocab_size)
    shape = tiny.shape(
        family, vocab_size=process.vocab_size, num_states=process.num_states, max_length=160
    )
    network = Transformer(shape)
    tiny.randomise(network)
    if pause:
        network.register_forward_pre_hook(lambda *_: time.sleep(pause))
    default = "left_to_right" if family == "ar" else "ancestral"
    return LanguageModel(network.eval(), process, tokenizer, Defaults(default, 8, 64))


@contextlib.contextmanager
def _serving(key=None, settings=None):
    torch.set_num_threads(1)
    models = {"mdlm": _model("mdlm"), "duo": _model("duo"), "ar": _model("ar")}
    models["slow"] = _model("mdlm", 0.02)
    hosted = {name: Hosted(name, model) for name, model in models.items()}
    with running(hosted, settings) as service:
        app = FastAPI()
        failures.install(app, service)

        @app.middleware("http")
        async def guard(request: Request, call_next):
            own = request.url.path in ("/playground/facts", "/playground/stream")
            if key and own and request.headers.get("authorization") != f"Bearer {key}":
                return problem(401, "this server needs an API key.")
            return await call_next(request)

        app.include_router(router(service))
        with listening(app) as url:
            yield url, service


@pytest.fixture(scope="module")
def server():
    with _serving() as (url, service):
        yield url, service


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def opened(browser, server):
    """From settings of a browser to the page in it; it must not complain of anything."""
    with contextlib.ExitStack() as stack:
        complaints = []

        def go(url=server[0], **settings):
            context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}} | settings)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(15_000)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda said: complaints.append(said.text) if _bad(said) else None)
            page.goto(url)
            return page

        yield go
        assert complaints == []


def _bad(said):
    return said.type == "error" and not re.search("status of 4|ERR_FAILED", said.text)


def _ask(page, prompt="The [[6]] fox [[9]].", strategy="llada", model="mdlm"):
    page.locator("#model option").first.wait_for(state="attached")
    page.select_option("#model", model)
    page.fill("#prompt", prompt)
    if strategy:
        page.select_option("#a-strategy", strategy)


def _run(page):
    page.click("#run")
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator("#status")).to_contain_text("evaluations")


def _move(page, at):
    page.locator("#slider").fill(str(at))


def _words(page, number=0):
    return page.locator(f"#canvas-{number}").inner_text()


def test_a_prompt_with_holes_is_written_and_shown_step_by_step(opened):
    page = opened()
    _ask(page)
    assert page.locator("#mirror mark").all_inner_texts() == ["[[6]]", "[[9]]"]
    expect(page.locator("#holes")).to_contain_text("2 holes, 15 tokens")
    expect(page.locator("#length")).to_be_disabled()
    _run(page)
    expect(page.locator("#step")).to_have_text("step 8 of 8")  # the animation comes to its end
    assert page.locator("#canvas-0 .open").count() == 0
    _move(page, 0)
    assert page.locator("#canvas-0 .open").count() == 15
    _move(page, 4)
    shown = page.locator("#canvas-0 .open").count()
    assert 0 < shown < 15
    assert page.locator("#canvas-0 .commit").count() > 0
    heat = page.locator("#canvas-0 .open").evaluate_all(
        "all => all.map(one => Number(one.style.getPropertyValue('--p')))"
    )
    assert all(0 < p <= 1 for p in heat)
    assert len(set(heat)) > 1
    numbers = page.locator(".numbers").inner_text()
    assert re.search(r"first draft\s+\d+", numbers)
    assert re.search(r"evaluations\s+8\b", numbers)
    assert re.search(r"tokens written\s+15\b", numbers)


@pytest.mark.slow
def test_the_animation_advances_while_the_text_is_still_being_written(opened):
    page = opened()
    _ask(page, "Once [[60]]", model="slow")
    page.fill("#a-steps", "60")
    page.select_option("#speed", "Infinity")
    page.click("#run")
    expect(page.locator("#canvas-0 .commit").first).to_be_visible()
    expect(page.locator("#stop")).to_be_enabled()
    first = page.locator("#canvas-0 .open").count()
    assert 0 < first < 60
    page.locator(".numbers dd").first.wait_for()
    assert page.locator("#canvas-0 .open").count() == 0


@pytest.mark.slow
def test_the_button_stops_the_work_on_the_server_too(opened, server):
    page = opened()
    _ask(page, "Once [[150]]", model="slow")
    page.fill("#a-steps", "150")
    before = server[1].engine.stats().cancelled
    page.click("#run")
    page.locator("#canvas-0 .commit").first.wait_for()
    page.click("#stop")
    expect(page.locator("#status")).to_have_text("Stopped.")
    expect(page.locator("#run")).to_be_enabled()
    until = time.monotonic() + 5
    while server[1].engine.stats().cancelled == before and time.monotonic() < until:
        time.sleep(0.02)
    assert server[1].engine.stats().cancelled == before + 1


@pytest.mark.slow
def test_revisions_are_seen_and_the_token_under_the_pointer_is_explained(opened):
    page = opened()
    _ask(page, "The [[30]] end", "ancestral", "duo")
    _run(page)
    seen = set()
    for step in range(9):
        _move(page, step)
        kinds = page.locator("#canvas-0 .token").evaluate_all(
            "all => all.map(one => one.className)"
        )
        seen |= set(kinds)
    assert {"token given", "token noise", "token commit", "token edit"} <= seen
    _ask(page, "The [[6]] end")
    _run(page)
    _move(page, 8)
    page.locator("#canvas-0-5").hover()
    about = page.locator("#canvas-0-about").inner_text()
    assert re.fullmatch(r"Position 6 · “.+” · written at step \d+ · confidence \d+ %", about)
    page.locator("#canvas-0-1").hover()
    assert page.locator("#canvas-0-about").inner_text() == "Position 2 · “h” · given"


@pytest.mark.slow
def test_two_strategies_write_the_same_prompt_side_by_side(opened):
    page = opened()
    _ask(page)
    page.check("#compare")
    page.select_option("#b-strategy", "bd3")
    page.click("#run")
    expect(page.locator(".numbers dd")).to_have_count(10)
    assert page.locator(".panel h2").all_inner_texts() == ["A · llada", "B · bd3"]
    expect(page.locator("#together")).to_be_visible()
    last = int(page.locator("#slider").get_attribute("max"))
    _move(page, 0)
    assert _words(page, 0) == _words(page, 1)
    _move(page, last)
    assert page.locator(".panel .open").count() == 0
    boxes = [panel.bounding_box() for panel in page.locator(".panel").all()]
    assert boxes[0]["y"] == boxes[1]["y"]


@pytest.mark.slow
def test_structured_output_is_what_was_asked_for_and_printed_prettily(opened):
    page = opened()
    _ask(page, "Answer: [[12]]")
    page.click("#structured summary")
    page.select_option("#rule", "json_schema")
    schema = '{"type":"object","properties":{"a":{"enum":[1,2]}},"required":["a"],'
    page.fill("#rule-text", schema + '"additionalProperties":false}')
    _run(page)
    expect(page.locator(".verdict")).to_contain_text("✓ The text fits the schema.")
    assert re.fullmatch(r'\{\n  "a": [12]\n\}', page.locator(".verdict pre").inner_text())
    page.select_option("#rule", "choices")
    page.fill("#rule-text", "yes\nno")
    _run(page)
    expect(page.locator(".verdict pre")).to_have_text(re.compile("^(yes|no)$"))


@pytest.mark.slow
def test_what_was_written_can_be_saved_as_one_page_that_opens_offline(opened, tmp_path):
    page = opened()
    _ask(page)
    page.check("#compare")
    _run(page)
    expect(page.locator("#share")).to_be_enabled()
    with page.expect_download() as downloading:
        page.click("#share")
    saved = tmp_path / downloading.value.suggested_filename
    assert saved.name == "unison-trace.html"
    downloading.value.save_as(saved)
    offline = opened(saved.as_uri(), offline=True)
    text = offline.locator("body").inner_text()
    assert "llada" in text
    assert "fast-dllm" in text
    assert "fox" in re.sub(r"\s", "", text)


@pytest.mark.slow
def test_the_saved_page_keeps_model_text_inert(opened, tmp_path):
    page = opened()
    _evil(page)
    with page.expect_download() as downloading:
        page.click("#share")
    saved = tmp_path / "trace.html"
    downloading.value.save_as(saved)
    offline = opened(saved.as_uri(), offline=True)
    offline.wait_for_timeout(300)
    assert offline.evaluate("window.hit") is None
    assert offline.locator("img[src=x]").count() == 0


@pytest.mark.slow
def test_model_text_that_looks_like_markup_is_only_text(opened):
    page = opened()
    _evil(page)
    assert EVIL in re.sub(r"\n", "", _words(page))
    expect(page.locator(".verdict pre")).to_have_text(EVIL)
    assert page.evaluate("window.hit") is None
    assert page.locator("#stage script, #stage img").count() == 0


def _evil(page):
    _ask(page, f"[[{len(EVIL) + 1}]]")
    page.click("#structured summary")
    page.select_option("#rule", "choices")
    page.fill("#rule-text", EVIL)
    _run(page)
    expect(page.locator("#step")).to_contain_text("of 8")
    _move(page, 8)


@pytest.mark.slow
def test_a_refusal_is_told_beside_the_field_it_is_about(opened):
    page = opened()
    _ask(page)
    page.fill("#a-steps", "0")
    page.click("#run")
    fault = page.locator("#side-a [data-param=steps] .fault")
    expect(fault).to_have_text("steps must be at least 1, got 0.")
    field = page.locator("#a-steps")
    expect(field).to_be_focused()
    assert field.get_attribute("aria-invalid") == "true"
    assert fault.get_attribute("id") in field.get_attribute("aria-describedby")
    page.fill("#a-steps", "")
    page.click("#side-a summary")
    page.fill("#a-top_p", "7")
    page.click("#run")
    expect(page.locator("[data-param=top_p] .fault")).to_contain_text("top_p must be")
    assert page.locator(".fault").count() == 1
    page.fill("#a-top_p", "")
    page.fill("#prompt", "[[500]]")
    page.click("#run")
    expect(page.locator("[data-param=canvas] .fault")).to_contain_text("longest canvas is 160")
    page.fill("#prompt", "a [[5]]")
    _run(page)
    assert page.locator(".fault").count() == 0


@pytest.mark.slow
def test_a_server_that_is_gone_is_told_in_words(opened):
    page = opened()
    _ask(page)
    page.route("**/playground/stream", lambda route: route.abort())
    page.click("#run")
    expect(page.locator("#alert")).to_contain_text("cannot be reached")


@pytest.mark.slow
def test_the_picker_offers_what_fits_the_model_and_explains_it(opened):
    page = opened()
    _ask(page, strategy=None)
    names = page.locator("#a-strategy option").all_inner_texts()
    assert "wino" in names
    assert "left_to_right" not in names
    page.select_option("#a-strategy", "fast-dllm")
    words = page.locator("#a-words")
    expect(words).to_contain_text("All that is surer than 0.9")
    expect(words).to_contain_text("Heuristic")
    expect(page.locator("#a-settings-select-threshold")).to_have_attribute("placeholder", "0.9")
    page.click("#side-a summary")
    page.select_option("#a-select", "entropy_bound")
    expect(page.locator("#a-settings-select-bound")).to_be_visible()
    assert page.locator("#a-settings-select-threshold").count() == 0
    page.select_option("#model", "ar")
    assert page.locator("#a-strategy option").all_inner_texts() == [
        "the model's own: left_to_right",
        "left_to_right",
    ]
    expect(page.locator("#blind")).to_be_visible()
    expect(page.locator("#a-words")).to_contain_text("Exact")


@pytest.mark.slow
def test_every_process_is_shown_to_its_end(opened):
    page = opened()
    for model in ("duo", "ar"):
        _ask(page, "The [[6]]", None, model)
        _run(page)
        last = page.locator("#slider").get_attribute("max")
        _move(page, last)
        assert page.locator("#canvas-0 .open, #canvas-0 .noise").count() == 0
        assert len(_words(page).replace("\n", "")) >= 8


@pytest.mark.slow
def test_everything_can_be_done_with_the_keyboard_alone(opened):
    page = opened()
    page.locator("#model option").first.wait_for(state="attached")
    _tab_to(page, "prompt")
    page.keyboard.type("The [[6]] fox")
    _tab_to(page, "insert")
    page.keyboard.press("Enter")
    expect(page.locator("#prompt")).to_have_value("The [[6]] fox[[8]]")
    _tab_to(page, "run")
    page.keyboard.press("Space")
    expect(page.locator("#status")).to_contain_text("evaluations")
    _tab_to(page, "slider")
    page.keyboard.press("Home")
    expect(page.locator("#step")).to_contain_text("step 0 of")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#step")).to_contain_text("step 1 of")
    assert page.locator("#slider").get_attribute("aria-valuetext").startswith("step 1 of")
    _tab_to(page, "canvas-0")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#canvas-0-about")).to_have_text("Position 2 · “h” · given")
    assert page.locator("#canvas-0").get_attribute("aria-activedescendant") == "canvas-0-1"
    _tab_to(page, "share")
    with page.expect_download():
        page.keyboard.press("Enter")
    page.locator("#prompt").focus()
    page.keyboard.press("Control+Enter")
    expect(page.locator("#status")).to_contain_text("evaluations")


def _tab_to(page, wanted):
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == wanted:
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert page.evaluate(outline) != "none", f"the focus on {wanted} cannot be seen"
            return
    raise AssertionError(f"Tab does not reach {wanted}")


@pytest.mark.slow
def test_every_control_has_a_name_and_what_happens_is_announced(opened):
    page = opened()
    _ask(page, strategy="wino")
    page.check("#compare")
    for summary in page.locator("summary").all():
        summary.click()
    _run(page)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('input, select, textarea, button, [tabindex]')]
            .filter(one => one.checkVisibility())
            .filter(one => !(one.labels?.length || one.ariaLabel || one.textContent.trim()
                && one.tagName === 'BUTTON')).map(one => one.id || one.outerHTML)"""
    )
    assert nameless == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))
    assert page.locator("#status").get_attribute("aria-live") == "polite"
    assert page.locator("#alert").get_attribute("role") == "alert"


# Every visible text's contrast with what lies behind it (WCAG 2.2, 1.4.3), lowest first.
CONTRAST = """() => {
  const board = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    board.clearRect(0, 0, 1, 1); board.fillStyle = colour; board.fillRect(0, 0, 1, 1);
    return [...board.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  for (const one of document.querySelectorAll('body *')) {
    const text = [...one.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!text || !one.checkVisibility()) continue;
    if (one.closest('.mirror, .skip, option, :disabled')) continue;
    const [a, b] = [light(rgba(getComputedStyle(one).color)), light(behind(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([ratio, one.tagName + '.' + one.className + ' ' + one.textContent.slice(0, 30)]);
  }
  return found.sort((x, y) => x[0] - y[0]).slice(0, 5);
}"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read_in_light_and_dark(opened, scheme):
    page = opened(color_scheme=scheme, reduced_motion="reduce")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 25, 29)"}[scheme]
    _ask(page, "The [[30]] end", "wino")
    page.click("#side-a summary")
    page.fill("#a-settings-select-threshold", "0.02")
    _run(page)
    for tint in ("sure", "age"):
        page.select_option("#tint", tint)
        for step in (0, 1, 2, 3, 5, int(page.locator("#slider").get_attribute("max"))):
            _move(page, step)
            worst = page.evaluate(CONTRAST)
            assert len(worst) == 5
            assert worst[0][0] >= 4.5, worst
    page.fill("#a-steps", "0")
    page.click("#run")
    page.locator(".fault").wait_for()
    worst = page.evaluate(CONTRAST)
    assert worst[0][0] >= 4.5, worst


@pytest.mark.slow
def test_a_phone_never_scrolls_sideways(opened):
    page = opened(viewport={"width": 360, "height": 740}, has_touch=True)
    _ask(page, "w" * 300 + " [[20]]" * 2 + "☃" * 10, "wino")
    page.check("#compare")
    for summary in page.locator("summary").all():
        summary.click()
    page.select_option("#rule", "regex")
    page.fill("#rule-text", "(" * 120)
    assert _widest(page) <= 360
    page.click("#run")
    page.locator(".fault").first.wait_for()
    assert _widest(page) <= 360
    page.fill("#prompt", "w" * 60 + " [[40]]")
    page.fill("#rule-text", "x{35}")
    page.select_option("#a-strategy", "llada")
    page.click("#run")
    expect(page.locator(".numbers dd")).to_have_count(10)
    assert _widest(page) <= 360
    small = page.locator("button:visible, summary:visible").evaluate_all(
        "all => all.filter(one => one.getBoundingClientRect().height < 24).map(one => one.id)"
    )
    assert small == []  # WCAG 2.2, 2.5.8: targets of 24 pixels


def _widest(page):
    return page.evaluate(
        "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
    )


@pytest.mark.slow
def test_who_wants_no_motion_gets_none(opened):
    page = opened(reduced_motion="reduce")
    _ask(page)
    assert page.locator("#speed").input_value() == "Infinity"
    _run(page)
    _move(page, 1)
    moving = page.locator("#canvas-0 .token").evaluate_all(
        "all => all.filter(one => getComputedStyle(one).animationName !== 'none').length"
    )
    assert moving == 0


@pytest.mark.slow
def test_a_key_is_asked_for_used_and_kept_for_the_session_only(opened):
    with _serving(KEY) as (url, _):
        page = opened(url)
        expect(page.locator("[data-param=key] .fault")).to_contain_text("needs an API key")
        expect(page.locator("#key")).to_be_focused()
        page.keyboard.type(KEY)
        page.keyboard.press("Tab")
        _ask(page)
        _run(page)
        assert page.evaluate("Object.values(sessionStorage)") == [KEY]
        assert page.evaluate("localStorage.length + document.cookie.length") == 0
        page.reload()
        page.locator("#model option").first.wait_for(state="attached")
        assert page.locator(".fault").count() == 0
        page.close()


@pytest.mark.slow
def test_a_server_that_tells_no_probabilities_or_logs_prompts_says_so(opened):
    with _serving(settings=Settings(logprobs=0, log_prompts=True)) as (url, _):
        page = opened(url)
        _ask(page)
        expect(page.locator("#logged")).to_be_visible()
        assert page.locator("#tint option").all_inner_texts() == ["step written", "none"]
        assert "sure" not in page.locator(".legend").inner_text()
        _run(page)
        expect(page.locator("#step")).to_have_text("step 8 of 8")
        for step in (3, 8):
            _move(page, step)
            for cell in page.locator("#canvas-0 .token").all():
                cell.click()
                told = page.locator("#canvas-0-about").inner_text()
                assert "%" not in told
                assert "NaN" not in told
