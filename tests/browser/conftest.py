"""A studio of its own and a real browser for the tests in this folder. Needs chromium on the machine."""

from __future__ import annotations

import base64
import io
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypedDict, Unpack
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    StorageState,
    expect,
    sync_playwright,
)

BROWSER = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "browser.py"))
CHROMIUM: str | None = BROWSER["find"]()
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Long enough for a machine that is busy with other things.
PATIENCE_MS = 30_000
MAKING_MS = 900_000
expect.set_options(timeout=PATIENCE_MS)

SIZES = {"narrow": (390, 844), "laptop": (1366, 768), "wide": (1920, 1080)}
WEB = Path(__file__).parents[2] / "web"
AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"
# The page's own list; each entry begins with its address.
PAGES = re.findall(r'address: "(\w+)"', (WEB / "src" / "pages" / "index.ts").read_text(encoding="utf-8"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and CHROMIUM is None and not os.environ.get("CI"):
            item.add_marker(pytest.mark.skip(reason=BROWSER["MISSING"]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [each for each in terminalreporter.stats.get("skipped", []) if BROWSER["MISSING"] in str(each.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests were not run: {BROWSER['MISSING']}; {BROWSER['HINT']}")


@dataclass
class Studio:
    """A running `convoscope studio`."""

    address: str
    """With the token."""
    folder: Path
    """Where it was started."""
    process: subprocess.Popen[str]

    @property
    def origin(self) -> str:
        """Without the token."""
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}"


def start_studio(folder: Path, *options: str) -> Studio:
    """`convoscope studio` in a process of its own, with all it keeps below `folder`."""
    environment = os.environ | {
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
    }
    for name in ("data", "cache", "run"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "convoscope", "studio", "--no-browser", *options],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    printed: list[str] = []
    for line in process.stdout:
        printed.append(line)
        if found := re.search(r"http://\S+", line):
            return Studio(found[0], folder, process)
    process.wait(20)
    raise AssertionError("the studio did not start:\n" + "".join(printed))


def stop_studio(studio: Studio) -> None:
    studio.process.terminate()
    studio.process.wait(30)
    if studio.process.stdout is not None:
        studio.process.stdout.close()


@pytest.fixture(scope="package")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """One studio for all tests; it begins to make its networks at once."""
    started = start_studio(tmp_path_factory.mktemp("studio"))
    yield started
    stop_studio(started)


@pytest.fixture(scope="package")
def own_run(studio: Studio) -> str:
    """The name of a run of the user's: one epoch on apples and bananas, in the studio's folder of runs."""
    name = "my-fruits"
    command = [
        "train",
        "builtin:drawings/apple,banana",
        "--model",
        "quickdraw",
        "--epochs",
        "1",
        "--output",
        f"runs/{name}",
    ]
    subprocess.run([sys.executable, "-m", "convoscope", *command], cwd=studio.folder, check=True, capture_output=True)
    return name


# Playwright keeps an event loop running in this thread: it must end before other tests use one.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_QUIET))
        yield chromium
        chromium.close()


@dataclass
class Seen:
    """What a page did that it must not."""

    faults: list[str] = field(default_factory=list)


class View(TypedDict, total=False):
    """How a page is opened."""

    size: str
    """One of `SIZES`."""
    dark: bool
    touch: bool
    language: str
    refusals: bool
    """That the browser logs requests that were refused or not answered is part of the test."""
    at: Studio
    """Another studio than the session's."""


class OpenPage(Protocol):
    """`open_page("#/tiny", size="narrow", dark=True)`."""

    def __call__(self, view: str = "", **options: Unpack[View]) -> Page: ...


@pytest.fixture
def open_page(browser: Browser, studio: Studio) -> Iterator[OpenPage]:
    """At the end no page may have logged an error or asked anybody else for anything."""
    seen = Seen()
    contexts: list[BrowserContext] = []

    def opened(view: str = "", **options: Unpack[View]) -> Page:
        at = options.get("at", studio)
        refusals = options.get("refusals", False)
        width, height = SIZES[options.get("size", "laptop")]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if options.get("dark") else "light",
            locale={"en": "en-GB", "de": "de-DE"}[options.get("language", "en")],
            has_touch=options.get("touch", False),
            # The printed address is for one use; the session's cookie is carried on.
            storage_state=session(browser, at),
        )
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: note_console(seen, message, refusals))
        page.on("pageerror", lambda fault: seen.faults.append(f"uncaught: {fault}"))
        page.on("request", lambda request: note_request(seen, at, request))
        page.goto(f"{at.origin}/{view}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not seen.faults, "\n".join(seen.faults)


_sessions: dict[str, StorageState] = {}


def session(browser: Browser, studio: Studio) -> StorageState:
    """The session that the printed address gives, once for each studio."""
    if studio.address not in _sessions:
        context = browser.new_context()
        context.new_page().goto(studio.address)
        _sessions[studio.address] = context.storage_state()
        context.close()
    return _sessions[studio.address]


# What chromium itself writes about requests.
_REFUSED = re.compile(r"Failed to load resource: |WebSocket connection to \S+ failed: ")


def note_console(seen: Seen, message: ConsoleMessage, refusals: bool) -> None:
    if refusals and _REFUSED.match(message.text):
        return
    if message.type in ("error", "warning"):
        seen.faults.append(f"console {message.type}: {message.text}")


def note_request(seen: Seen, studio: Studio, request: Request) -> None:
    own = (studio.origin, studio.origin.replace("http://", "ws://"), "data:", "blob:")
    if not request.url.startswith(own):
        seen.faults.append(f"asked somebody else: {request.url}")


@pytest.fixture
def serious_faults() -> Callable[[Page], list[str]]:
    """What axe finds serious or critical on a page, as text."""
    source = AXE.read_text(encoding="utf-8")

    def check(page: Page) -> list[str]:
        page.evaluate(source)
        found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{each['id']}: {each['help']}: " + "; ".join(node["html"][:160] for node in each["nodes"][:4])
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]

    return check


def open_pad(open_page: OpenPage, model: str = "apple-banana", **options: Unpack[View]) -> Page:
    """The page Draw with a network that is ready; waits until the studio has made it."""
    page = open_page(f"#/draw?model={model}", **options)
    expect(page.get_by_text("on drawings it never saw in training")).to_be_visible(timeout=MAKING_MS)
    return page


def pad_of(page: Page) -> Locator:
    return page.get_by_role("application", name="Drawing pad")


def replay(page: Page, lines: list[list[tuple[float, float]]]) -> float:
    """Draw strokes, each of points (x, y) from 0 to 1 over the pad, with the mouse. Gives the page's time just before the last end."""
    pad = pad_of(page)
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    assert box is not None
    ended = 0.0
    for line in lines:
        for index, (x, y) in enumerate(line):
            page.mouse.move(box["x"] + 1 + x * (box["width"] - 2), box["y"] + 1 + y * (box["height"] - 2))
            if index == 0:
                page.mouse.down()
        if line is lines[-1]:
            ended = float(page.evaluate("performance.now()"))
        page.mouse.up()
    return ended


def drag(page: Page, begin: tuple[float, float], end: tuple[float, float], steps: int = 5) -> None:
    """With the mouse, in the window's pixels."""
    page.mouse.move(*begin)
    page.mouse.down()
    page.mouse.move(*end, steps=steps)
    page.mouse.up()


def middle_of(element: Locator) -> tuple[float, float]:
    box = element.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def wait_for_guess(page: Page, ended: float) -> None:
    """Until the page shows the answer to what was on the pad at that time."""
    page.wait_for_function(
        "(since) => performance.getEntriesByName('guess').some((each) => each.startTime >= since)", arg=ended
    )


def pixels_of(canvas: Locator) -> NDArray[np.uint8]:
    """What is drawn on a canvas: height x width x (red, green, blue, opacity)."""
    address = str(canvas.evaluate("(canvas) => canvas.toDataURL()"))
    return np.array(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGBA"))


def frames(page: Page, count: int = 10) -> None:
    """Let the page draw that many frames."""
    page.evaluate(
        """(count) => new Promise((done) => {
          const next = () => (count-- > 0 ? requestAnimationFrame(next) : done());
          next();
        })""",
        count,
    )


def wait_for(page: Page, condition: Callable[[], bool], most: int = 2_000) -> None:
    """Until `condition()` is true; it is looked at after each of at most this many frames of the page."""
    for _ in range(most):
        if condition():
            return
        frames(page, 1)
    raise AssertionError("waited in vain")
