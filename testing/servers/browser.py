"""A real browser for tests of pages: headless Chromium, controlled over a pipe by the DevTools protocol.

    with chromium() as browser, browser.page(path) as page:
        page.evaluate("document.title")

Messages are JSON with a zero byte behind each (Chrome DevTools Protocol, `--remote-debugging-pipe`), so that neither a
port nor a driver that must match the browser's version is needed.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"),
    reason="chromium is not installed (Debian: apt-get install chromium)",
)
# The time limit of every command; only a hanging browser reaches it.
PATIENCE_SECONDS = 60
FLAGS = [
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--no-first-run", "--disable-extensions", "--disable-background-networking",
    "--disable-component-update", "--mute-audio",
]  # fmt: skip


class Pipe:
    """Sends commands, receives replies and events."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._rest, self._last = b"", 0
        self.events: deque[dict[str, Any]] = deque()

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The result of the reply; events received meanwhile go to `events`. Raises RuntimeError for an error."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._next()
            if reply.get("id") != self._last:
                self.events.append(reply)
            elif "error" in reply:
                raise RuntimeError(f"{method}: {reply['error']['message']}")
            else:
                return dict(reply["result"])

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE_SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select([self._reading], [], [], max(0.0, until - time.monotonic()))
            piece = os.read(self._reading, 1 << 20) if ready else b""
            if not piece:
                raise RuntimeError("the browser " + ("has ended" if ready else "does not answer"))
            self._rest += piece
        message, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(message))


class Page:
    """One tab. `complaints`: console messages, exceptions and policy violations. `requests`: every URL requested."""

    def __init__(self, pipe: Pipe, session: str) -> None:
        self._pipe, self._session = pipe, session
        self._complaints: list[str] = []
        self._requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self._call(f"{domain}.enable")

    def open(self, place: Path | str) -> None:
        """Loads a file or a URL and waits until all its resources are loaded."""
        self._call("Page.navigate", url=place if isinstance(place, str) else place.absolute().as_uri())
        self.wait("document.readyState === 'complete'")

    def frame(self) -> "Page":
        """The document in the tab's only frame, which a sandbox gives a process of its own."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            targets = self._pipe.call("Target.getTargets")["targetInfos"]
            frames = [each["targetId"] for each in targets if each["type"] == "iframe"]
            if frames:
                break
            if time.monotonic() > until:
                raise RuntimeError("the page has no frame in a process of its own")
            time.sleep(0.02)
        [target] = frames
        return Page(self._pipe, self._pipe.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])

    def before_load(self, script: str) -> None:
        """Runs a script in each document that the tab loads from now on, before its own."""
        self._call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def drag(self, selector: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drags the mouse over an element, between two places in shares of its width and height."""
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        left, top, width, height = self.evaluate(f"(({{x, y, width, height}}) => [x, y, width, height])({box})")
        for kind, (across, down) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
            place = {"x": left + across * width, "y": top + down * height}
            self._call("Input.dispatchMouseEvent", type=kind, **place, button="left", buttons=1, clickCount=1)

    def evaluate(self, script: str) -> Any:
        """The JSON value of an expression; awaits a promise. Raises RuntimeError if it throws."""
        reply = self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in reply:
            details = reply["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return reply["result"].get("value")

    def wait(self, condition: str) -> None:
        """Waits until an expression is true."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not self.evaluate(condition):
            if time.monotonic() > until:
                raise RuntimeError(f"never came true: {condition}")
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """Clicks the first element of a CSS selector, as soon as there is one."""
        self.wait(f"document.querySelector({json.dumps(selector)}) !== null")
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def choose(self, selector: str, *files: Path) -> None:
        """Chooses files in a file input."""
        found = self._call("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        self._call("DOM.setFileInputFiles", files=[str(file) for file in files], objectId=found["result"]["objectId"])

    def throttle(self, upload_bytes_per_second: int = -1, *, offline: bool = False) -> None:
        """Slows down what the tab sends, or takes its network away; without arguments both end."""
        self._call(
            "Network.emulateNetworkConditions",
            offline=offline,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=upload_bytes_per_second,
        )

    def screenshot(self, file: Path) -> None:
        """Writes what the tab shows as a PNG."""
        file.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def press(self, key: str) -> None:
        """Presses a key by its name: `ArrowRight`, `Enter`, ` `."""
        code = {"Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowRight": 39, "Tab": 9}[key]
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self._call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code="Space" if key == " " else key,
                windowsVirtualKeyCode=code,
                text=text,
            )

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Sets the size in CSS pixels, and device pixels per CSS pixel."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def move_to(self, zone: str) -> None:
        """Sets the time zone of the page's next load, by its name: `Asia/Kolkata`."""
        self._call("Emulation.setTimezoneOverride", timezoneId=zone)

    def prefer(self, scheme: str, media: str = "") -> None:
        """Sets the colour scheme, `light` or `dark`, and the media: `print` shows the printed page."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", media=media, features=features)

    def printed(self) -> bytes:
        """The page as a PDF on A4."""
        reply = self._call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True)
        return base64.b64decode(reply["data"])

    @property
    def complaints(self) -> list[str]:
        self._sort()
        return self._complaints

    @property
    def requests(self) -> list[str]:
        self._sort()
        return self._requests

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._pipe.call(method, self._session, **params)

    def _sort(self) -> None:
        self._call("Runtime.evaluate", expression="0")  # all earlier events have arrived by its reply
        while self._pipe.events:
            event = self._pipe.events.popleft()
            method, params = event["method"], event.get("params", {})
            if method == "Network.requestWillBeSent":
                self._requests.append(params["request"]["url"])
            elif method == "Runtime.consoleAPICalled":
                self._complaints.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
            elif method == "Runtime.exceptionThrown":
                self._complaints.append(json.dumps(params["exceptionDetails"]))
            elif method == "Log.entryAdded":
                self._complaints.append(params["entry"]["text"])
            elif method == "Audits.issueAdded":
                self._complaints.append(json.dumps(params["issue"]))


class Browser:
    """One running Chromium."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    @contextmanager
    def page(self, place: Path | str, width: int = 1280, height: int = 900) -> Iterator[Page]:
        """Opens a file or a URL in a new tab."""
        target = self._pipe.call("Target.createTarget", url="about:blank")["targetId"]
        session = self._pipe.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self._pipe, session)
        page.resize(width, height)
        page.open(place)
        try:
            yield page
        finally:
            self._pipe.call("Target.closeTarget", targetId=target)
            self._pipe.events.clear()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium with its own profile, until the block ends."""
    assert CHROMIUM, "chromium is not installed"
    to_it, ours = os.pipe()
    mine, from_it = os.pipe()
    with tempfile.TemporaryDirectory(prefix="crease-browser-", ignore_cleanup_errors=True) as profile:
        # Chromium reads from descriptor 3 and writes to descriptor 4.
        command = ["bash", "-c", f'exec "$@" 3<&{to_it} 4>&{from_it}', "bash", CHROMIUM, *FLAGS]
        process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_it, from_it),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_it)
        os.close(from_it)
        pipe = Pipe(mine, ours)
        try:
            yield Browser(pipe)
        finally:
            with suppress(RuntimeError, OSError):
                pipe.call("Browser.close")
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(ours)
            os.close(mine)
