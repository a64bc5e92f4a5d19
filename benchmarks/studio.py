"""The studio as a browser measures it: answers to strokes, script in a frame, training of Tiny, first views.

    .venv/bin/python benchmarks/studio.py

Needs chromium and the built page. The networks on the page Draw are the user's own; if the studio has not trained them
yet, the script waits. Each line gives the median and the 95th percentile.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

import convoscope.studio

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
MAKING_MS = 900_000
STROKES = 60
FRAMES_AT_ONCE = 6
FIRST_VIEWS = 7
# What is on the page when it can be used.
CONTENT = {
    "tiny": "main [data-reading=epoch]",
    "convolve": "main [data-test=result]",
    "draw": "main [role=application]",
}


def told(values: list[float], unit: str, digits: int = 0) -> str:
    ninety_fifth = statistics.quantiles(values, n=20, method="inclusive")[-1]
    median = statistics.median(values)
    return f"median {median:7.{digits}f} {unit}, 95th percentile {ninety_fifth:7.{digits}f} {unit}, of {len(values)}"


def say(what: str, result: str) -> None:
    print(f"{what:58} {result}", flush=True)


@contextlib.contextmanager
def studio(folder: Path) -> Iterator[str]:
    """A studio of its own; gives its address with the token."""
    command = [sys.executable, "-m", "convoscope", "studio", "--no-browser"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def training(folder: Path) -> Iterator[None]:
    """`convoscope train builtin:drawings --epochs 300`, from its first steps on, until the end of the block."""
    run = folder / "busy"
    command = [sys.executable, "-m", "convoscope", "train", "builtin:drawings", "--epochs", "300", "--output", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (run / "metrics.csv").exists():
            assert process.poll() is None, "the training has ended"
            time.sleep(0.1)
        yield
        if process.poll() is not None:
            print("the training ended before the measurement did")
    finally:
        process.terminate()
        process.wait(30)


def answer_times(page: Page) -> list[float]:
    """Milliseconds from the end of each of `STROKES` strokes to the frame with the new bars and maps."""
    pad = page.get_by_role("application", name="Drawing pad")
    box = pad.bounding_box()
    assert box is not None
    x, y, side = box["x"], box["y"], box["width"]
    answer = "() => performance.getEntriesByName('guess').find((each) => each.startTime >= ended)?.duration"
    taken = []
    for stroke in range(STROKES):
        if stroke % 6 == 0:
            pad.press("Delete")
            page.wait_for_timeout(300)
        start, end = (0.15 + 0.13 * (stroke % 6), 0.2), (0.85 - 0.11 * (stroke % 5), 0.85)
        page.mouse.move(x + side * start[0], y + side * start[1])
        page.mouse.down()
        page.mouse.move(x + side * end[0], y + side * end[1], steps=15)
        page.evaluate("window.ended = performance.now()")
        page.mouse.up()
        taken.append(float(page.wait_for_function(answer).json_value()))
        page.wait_for_timeout(100)
    return taken


def script_per_frame(page: Page, session: CDPSession, seconds: float) -> tuple[list[float], list[float]]:
    """Milliseconds of script, and of all the main thread's work, in a frame: means of `FRAMES_AT_ONCE` frames each."""

    def spent() -> tuple[float, float]:
        values = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        return values["ScriptDuration"], values["TaskDuration"]

    frames = (
        f"() => new Promise((done) => {{ let left = {FRAMES_AT_ONCE}; "
        "const step = () => left-- > 0 ? requestAnimationFrame(step) : done(); step(); })"
    )
    script, task = [], []
    end = time.monotonic() + seconds
    before = spent()
    while time.monotonic() < end:
        page.evaluate(frames)
        after = spent()
        script.append(1000 * (after[0] - before[0]) / FRAMES_AT_ONCE)
        task.append(1000 * (after[1] - before[1]) / FRAMES_AT_ONCE)
        before = after
    return script, task


def frame_costs(page: Page, name: str) -> None:
    """While the player that is on the page plays at full speed; anew each second, as Tiny's animation is short."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    page.get_by_role("slider", name="Speed").fill("1")
    script: list[float] = []
    task: list[float] = []
    for _ in range(4):
        page.get_by_role("button", name="Play", exact=True).click()
        for values, more in zip((script, task), script_per_frame(page, session, 1), strict=True):
            values += more
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("button", name="Back to the start").click()
    say(f"{name}, script in a frame", told(script, "ms", 2))
    say(f"{name}, all of the main thread in a frame", told(task, "ms", 2))
    session.detach()


def tiny_training(page: Page) -> tuple[float, float]:
    """Seconds for 1,000 epochs at full pace, and the longest milliseconds between two frames meanwhile."""
    page.get_by_role("group", name="How long").get_by_text("1,000 epochs").click()
    page.get_by_role("slider", name="Pace").fill("1")
    page.get_by_role("button", name="Train", exact=True).evaluate(
        """(button) => {
          const epoch = document.querySelector('[data-reading=epoch]');
          window.measured = new Promise((done) => {
            const begin = performance.now();
            let before = begin, longest = 0;
            const step = () => {
              const now = performance.now();
              longest = Math.max(longest, now - before);
              before = now;
              if (epoch.textContent.trim().startsWith('1,000')) done([(now - begin) / 1000, longest]);
              else requestAnimationFrame(step);
            };
            requestAnimationFrame(step);
          });
          button.click();
        }"""
    )
    seconds, longest = page.evaluate("window.measured")
    return seconds, longest


def first_view(browser: Browser, origin: str, cookies: list, name: str) -> tuple[float, int]:  # type: ignore[type-arg]
    """Milliseconds from navigation to a page's content, with an empty cache; bytes of script, packed with gzip."""
    context = browser.new_context(viewport={"width": 1366, "height": 768}, locale="en-GB")
    context.add_cookies(cookies)
    page = context.new_page()
    page.add_init_script(
        f"""const look = () => document.querySelector({CONTENT[name]!r})
          ? (window.there = performance.now()) : requestAnimationFrame(look);
        requestAnimationFrame(look);"""
    )
    page.goto(f"{origin}/#/{name}")
    page.wait_for_function("() => window.there")
    took = float(page.evaluate("window.there"))
    paths = page.evaluate("performance.getEntriesByType('resource').map((each) => new URL(each.name).pathname)")
    built = Path(convoscope.studio.__file__).parent / "page"
    size = sum(len(gzip.compress((built / path.lstrip("/")).read_bytes())) for path in paths if path.endswith(".js"))
    context.close()
    return took, size


def main() -> None:
    with tempfile.TemporaryDirectory() as name, studio(Path(name)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        context = browser.new_context(viewport={"width": 1366, "height": 768}, locale="en-GB")
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.goto(address)
        origin = address.partition("/?")[0]

        for model in ("twenty", "apple-banana"):
            page.goto(f"{origin}/#/draw?model={model}")
            page.reload()
            page.get_by_text("on drawings it never saw").wait_for(timeout=MAKING_MS)
        for page_name in CONTENT:
            views = [first_view(browser, origin, context.cookies(), page_name) for _ in range(FIRST_VIEWS)]
            say(f"first view of {page_name}", told([view[0] for view in views], "ms"))
            say(f"script of {page_name}, packed", f"{views[0][1] / 1000:.0f} kB")

        # A tab behind others gets no frames.
        page.bring_to_front()
        page.goto(f"{origin}/#/tiny")
        runs = []
        for _ in range(5):
            page.reload()
            page.locator(CONTENT["tiny"]).wait_for()
            runs.append(tiny_training(page))
        say("Tiny, 1,000 epochs", told([run[0] for run in runs], "s", 2))
        say("Tiny, longest time between two frames meanwhile", told([run[1] for run in runs], "ms"))
        page.locator("main").get_by_role("button", name=re.compile(r"^(?:horizontal|vertical) \d")).last.click()
        page.get_by_role("tab", name="Animation").click()
        frame_costs(page, "Tiny's animation")
        page.goto(f"{origin}/#/convolve?side=128&steps=conv:sobel_x")
        page.reload()
        page.locator(CONTENT["convolve"]).wait_for()
        frame_costs(page, "Convolve's window sliding")

        for model in ("apple-banana", "twenty"):
            page.goto(f"{origin}/#/draw?model={model}")
            page.reload()
            page.get_by_text("on drawings it never saw").wait_for()
            say(f"{model}: from a stroke's end to the answer", told(answer_times(page), "ms"))
            with training(Path(name) / model):
                say(f"{model}: the same while a training runs", told(answer_times(page), "ms"))
        browser.close()


if __name__ == "__main__":
    main()
