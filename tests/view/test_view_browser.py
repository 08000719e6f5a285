"""In a real browser, offline, a page shows what the trace says and lets its reader move about."""

import json
from pathlib import Path

import pytest
import tiny

from unison import trace, view
from unison.decode.diffusion.composed import Composed
from unison.decode.revise import WINO
from unison.decode.select import Threshold
from unison.decode.temper import Temper
from unison.generation import Sampling, generate

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium")
HOT = Temper(1.0)
DRAFTS = Composed(select=Threshold(0.03), revise=WINO(0.05), temper=HOT)
STRATEGIES = {
    "drafts": ("mdlm", DRAFTS),
    "ancestral": ("mdlm", "ancestral"),
    "uniform": ("duo", "ancestral"),
    "left to right": ("ar", "left_to_right"),
}


def recorded(family, strategy, seed):
    model = tiny.model(family)
    recorder = trace.Recorder(model, Sampling(strategy), seed=seed, num=2)
    samples = generate(
        model, "the ", new_tokens=9, num=2, strategy=strategy, seed=seed, on_step=recorder
    )
    return samples, json.loads(json.dumps(recorder.document()))


@pytest.fixture(scope="module")
def runs():
    return {
        name: recorded(family, strategy, seed)
        for seed, (name, (family, strategy)) in enumerate(STRATEGIES.items(), 1)
    }


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, runs, tmp_path):
    """Open a page of runs from its file, offline; complain of anything the browser complains of."""
    contexts, complaints, asked = [], [], []

    def open_(*names, change=None, **settings):
        documents = [json.loads(json.dumps(runs[name][1])) for name in names]
        if change is not None:
            change(documents)
        path = tmp_path / "page.html"
        path.write_text(view.page(documents, names=names), encoding="utf-8")
        context = browser.new_context(offline=True, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector(".panel")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []
    assert all(url.startswith("file:") for url in asked)
    assert len(asked) == len(contexts), "nothing but the page is asked for"


def text(document, row):
    ends = document["model"]["eos_ids"]
    return "".join(document["texts"][str(t)] for t in document["result"][row] if t not in ends)


def seek(page, step):
    page.locator(".slider").evaluate(
        "(slider, step) => { slider.value = step; slider.dispatchEvent(new Event('input')); }", step
    )


def states(page, row=0):
    """Return the texts and the state of every cell of a row that is shown."""
    cells = page.locator(".cells").nth(row).locator(".cell")
    return cells.evaluate_all("all => all.map(cell => [cell.textContent, cell.classList[1]])")


SLOW = (pytest.param(name, marks=pytest.mark.slow) for name in list(STRATEGIES)[1:])


@pytest.mark.parametrize("name", ["drafts", *SLOW])
def test_every_step_shows_its_canvas_and_the_end_the_text_that_was_written(name, opened, runs):
    samples, document = runs[name]
    page = opened(name)
    for row in range(2):
        shown = page.locator(f'[data-row="0.{row}"]').text_content()
        assert shown == text(document, row)
        assert not samples[row].text or samples[row].text in shown
    mask, ends = document["model"]["mask_id"], document["model"]["eos_ids"]
    for frame in trace.replayed(document):
        seek(page, frame.step)
        given = trace.given_places(document["rows"][0])
        done = {a.position: a.kind for m in frame.moments if m.row == 0 for a in m.actions}
        for place, (said, state) in enumerate(states(page)):
            token = frame.canvases[0][place]
            if place in given:
                assert state == "given"
            elif place in done:
                kinds = {"commit": "fresh", "edit": "revised"}
                assert state == kinds.get(done[place], "taken")
            else:
                assert (state == "open") == (token == mask)
            if token != mask:
                assert said == ("∎" if token in ends else signed(document["texts"][str(token)]))


def signed(said):
    return said.replace("\n", "↵")


@pytest.mark.slow
def test_keys_and_buttons_move_the_step_and_playing_stops_at_the_end(opened, runs):
    page = opened("drafts")
    last = len(runs["drafts"][1]["steps"])
    count = page.locator("output.step")
    assert count.text_content() == f"{last} / {last}"
    page.keyboard.press("ArrowLeft")
    assert count.text_content() == f"{last - 1} / {last}"
    page.keyboard.press("Home")
    assert count.text_content() == f"0 / {last}"
    page.keyboard.press("ArrowRight")
    assert count.text_content() == f"1 / {last}"
    page.get_by_role("slider", name="step").focus()
    page.keyboard.press("ArrowRight")
    assert count.text_content() == f"2 / {last}", "the slider's own arrow, once"
    page.get_by_role("button", name="one step back").click()
    assert count.text_content() == f"1 / {last}"
    page.get_by_label("speed").select_option("64")
    page.get_by_role("button", name="play").click()
    page.wait_for_function(
        "last => document.querySelector('output.step').textContent === `${last} / ${last}`",
        arg=last,
    )
    assert page.get_by_role("button", name="play").is_visible(), "no longer pause"


@pytest.mark.slow
def test_a_token_tells_its_story_on_focus_and_arrows_walk_on(opened, runs):
    page = opened("ancestral")
    _, document = runs["ancestral"]
    cells = page.locator(".cells").first.locator(".cell")
    cells.nth(0).focus()
    page.keyboard.press("End")
    card = page.locator("#details")
    size = len(document["result"][0])
    wrote = [
        (entry["step"], action[3])
        for entry in document["steps"] for made in entry["rows"] if made["row"] == 0
        for action in made["actions"] if action[1] == size - 1
    ]  # fmt: skip
    told = card.text_content()
    assert f"position{size - 1} of {size}" in told
    assert all(f"step {step}: wrote" in told for step, _ in wrote)
    page.keyboard.press("ArrowLeft")
    assert f"position{size - 2} of {size}" in card.text_content()
    page.keyboard.press("Escape")
    assert card.is_hidden()


@pytest.mark.slow
def test_details_follow_a_token_that_had_to_be_scrolled_to(opened):
    page = opened("ancestral", viewport={"width": 500, "height": 320})
    page.evaluate("window.scrollTo(0, 0)")
    page.locator(".cells").nth(1).locator(".cell").last.focus()
    page.wait_for_function("window.scrollY > 0")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.locator("#details").is_visible()


@pytest.mark.slow
def test_two_traces_are_compared_token_by_token(opened, runs):
    page = opened("drafts", "ancestral")
    one, other = (runs[name][1]["result"] for name in ("drafts", "ancestral"))
    for row in range(2):
        unlike = [a != b for a, b in zip(one[row], other[row], strict=True)]
        assert any(unlike), "the test compares runs that differ"
        for view_ in (row, 2 + row):
            marked = page.locator(".cells").nth(view_).locator(".cell").evaluate_all(
                "all => all.map(cell => cell.classList.contains('differs'))"
            )  # fmt: skip
            assert marked == unlike
        assert f"{sum(unlike)} token" in page.locator(".caption").nth(2 + row).text_content()
    page.get_by_label("mark what differs").uncheck()
    assert page.locator(".panel .differs").count() == 0
    differing = page.locator("tr.differ th").all_text_contents()
    assert any(name.startswith("seed") for name in differing)
    assert not any(name.startswith("model.tokenizer") for name in differing)


@pytest.mark.slow
def test_runs_of_unlike_length_go_together_by_step_or_by_share(opened, runs):
    page = opened("left to right", "ancestral")
    seek(page, 0)
    page.get_by_label("together by").select_option("share")
    seek(page, page.locator(".slider").evaluate("slider => slider.max"))
    assert not [state for _, state in states(page, 2) if state == "open"]
    seek(page, 0)
    assert [state for _, state in states(page, 2)].count("open") == 9


@pytest.mark.slow
def test_any_of_many_traces_can_be_chosen(opened, runs):
    page = opened(*list(runs) * 2)
    assert page.locator(".panel").count() == 2
    page.locator("#show-3").check()
    page.locator("#show-0").uncheck()
    shown = page.locator(".panel .name").all_text_contents()
    assert [name.split(" ", 1)[1] for name in shown] == ["ancestral", "left to right"]
    page.locator("#show-1").uncheck()
    page.locator("#show-3").click()
    assert page.locator(".panel").count() == 1, "one is always shown"


@pytest.mark.slow
def test_a_text_is_found_across_tokens_and_a_token_by_number(opened, runs):
    page = opened("ancestral")
    _, document = runs["ancestral"]
    found = page.locator(".cells").first.locator(".found")
    page.get_by_label("find").fill("THE ")
    assert found.count() >= 4
    assert found.evaluate_all("all => all.slice(0, 4).map(c => c.textContent).join('')") == "the "
    token = document["result"][0][-1]
    page.get_by_label("find").fill(f"#{token}")
    assert found.count() == document["result"][0].count(token)


@pytest.mark.slow
def test_each_shade_shows_its_numbers(opened, runs):
    page = opened("drafts")
    samples, document = runs["drafts"]
    last, choice = len(document["steps"]), page.get_by_label("shade by")
    levels = "all => all.map(cell => Number(cell.dataset.v ?? -1))"
    cells = page.locator(".cells").first.locator(".cell")
    choice.select_option("step")
    assert cells.evaluate_all(levels) == [
        -1 if given else int(10 * step / last + 0.5)
        for step, given in zip(samples[0].step, samples[0].given, strict=True)
    ]
    choice.select_option("rewrites")
    taken = [0] * len(samples[0].tokens)
    for frame in trace.replayed(document):
        for action in (a for m in frame.moments if m.row == 0 for a in m.actions):
            taken[action.position] += action.kind != "commit"
    assert sum(taken) > 0
    assert cells.evaluate_all(levels) == [
        -1 if given else 2 * min(times, 5)
        for times, given in zip(taken, samples[0].given, strict=True)
    ]
    choice.select_option("confidence")
    shaded = cells.evaluate_all(levels)
    for place, sure in enumerate(samples[0].confidence):
        if not samples[0].given[place]:
            assert abs(shaded[place] - 10 * sure) <= 0.51


@pytest.mark.slow
def test_what_a_model_wrote_stays_text(opened, runs):
    nasty = "</script><img src=x onerror=alert(1)>\u2028"

    def change(documents):
        documents[0]["texts"] = dict.fromkeys(documents[0]["texts"], nasty)

    page = opened("ancestral", change=change)
    size = len(runs["ancestral"][1]["result"][0])
    ends = runs["ancestral"][1]["model"]["eos_ids"]
    told = sum(token not in ends for token in runs["ancestral"][1]["result"][0])
    assert page.locator('[data-row="0.0"]').text_content() == nasty * told
    assert page.locator("#stage img").count() == 0
    assert page.locator(".cells").first.locator(".cell").count() == size


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(scheme, opened):
    page = opened("drafts", "uniform", viewport={"width": 360, "height": 740}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.locator(".cells").first.locator(".cell").first.focus()
    box = page.locator("#details").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 25, 29)"}[scheme]
