#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Opens pages in headless Chromium at 1280 and 390 pixels, light and dark, and fails on errors in the console, on a request to
anything but files, on what is wider than the window, and on drawings without words.  Needs chromium (Debian: apt-get install
chromium) and nothing else.

usage: page_test.py PAGE.html [FOLDER]   a report, which has figures
       page_test.py SITE [FOLDER]        the pages of docs/site/build, whose search must find something; their reference is Doxygen's
FOLDER: where pictures of the pages are written
"""
import base64
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request


class Browser:
    """Chromium, spoken to by the lines of its DevTools protocol."""

    def __init__(self, folder):
        program = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
        if program is None:
            sys.exit("page_test: no chromium found (Debian: apt-get install chromium)")
        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
             "--remote-debugging-port=0", "--no-first-run", f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port_file = pathlib.Path(folder) / "DevToolsActivePort"
        for _ in range(600):
            if port_file.exists() and port_file.read_text().count("\n"):
                break
            time.sleep(0.1)
        port = int(port_file.read_text().split()[0])
        targets = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json"))
        path = next(t for t in targets if t["type"] == "page")["webSocketDebuggerUrl"].split(str(port), 1)[1]
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=120)
        key = base64.b64encode(os.urandom(16)).decode()
        self.connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self.bytes = b""
        while b"\r\n\r\n" not in self.bytes:
            self.bytes += self.connection.recv(65536)
        self.bytes = self.bytes.split(b"\r\n\r\n", 1)[1]
        self.number = 0
        self.events = []

    def close(self):
        self.process.terminate()
        self.process.wait()

    def take(self, count):
        while len(self.bytes) < count:
            more = self.connection.recv(1 << 20)
            if not more:
                sys.exit("page_test: the browser ended")
            self.bytes += more
        taken, self.bytes = self.bytes[:count], self.bytes[count:]
        return taken

    def message(self):
        text = b""
        while True:
            first, length = self.take(2)
            if length == 126:
                length = struct.unpack(">H", self.take(2))[0]
            elif length == 127:
                length = struct.unpack(">Q", self.take(8))[0]
            text += self.take(length)
            if first & 0x80:
                return json.loads(text)

    def ask(self, method, **parameters):
        self.number += 1
        data = json.dumps({"id": self.number, "method": method, "params": parameters}).encode()
        mask = os.urandom(4)
        self.connection.sendall(b"\x81" + (struct.pack(">BH", 0xFE, len(data)) if len(data) > 125 else bytes([0x80 | len(data)])) + mask +
                                bytes(b ^ mask[i % 4] for i, b in enumerate(data)))
        while True:
            answer = self.message()
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"page_test: {method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def value(self, expression):
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")


WIDER = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && !e.closest('svg') &&
    e.getBoundingClientRect().right > innerWidth + 0.5).slice(0, 5).map(e => e.tagName + '.' + e.className)"""


def open_page(browser, page):
    browser.events.clear()
    browser.ask("Page.navigate", url=page)
    for _ in range(300):
        if browser.value("document.readyState + location.href") == "complete" + page:
            return
        time.sleep(0.1)
    sys.exit(f"{page}: did not open in 30 seconds")


def check(browser, page, name, width, scheme, pictures, is_report):
    browser.ask("Storage.clearDataForOrigin", origin="file://", storageTypes="local_storage")  # the mode that a page before was in
    browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    open_page(browser, page)
    wrong = []
    for event in browser.events:
        what, about = event["method"], event["params"]
        if what == "Runtime.exceptionThrown":
            wrong.append("exception: " + about["exceptionDetails"]["text"])
        elif what == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            wrong.append("console: " + str(about["args"]))
        elif what == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            wrong.append("log: " + about["entry"]["text"])
        elif what == "Network.requestWillBeSent" and not about["request"]["url"].startswith(("file:", "data:", "blob:")):
            wrong.append("request: " + about["request"]["url"])
    inner, scroll = browser.value("innerWidth"), browser.value("document.scrollingElement.scrollWidth")
    if inner != width or scroll > inner:
        wrong.append(f"{scroll} pixels wide in a window of {inner}: {browser.value(WIDER)}")
    if is_report and browser.value("document.querySelectorAll('svg[role=img]').length") == 0:
        wrong.append("no figures")
    unnamed = browser.value("[...document.querySelectorAll('svg[role=img]')].filter(s => !s.querySelector('title')?.textContent ||"
                            " !s.querySelector('desc')?.textContent).length")
    if unnamed:
        wrong.append(f"{unnamed} figures without title or description")
    dark = browser.value("getComputedStyle(document.body).backgroundColor")
    if (scheme == "dark") == (dark in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")):
        wrong.append(f"background {dark} in {scheme}")
    height = browser.value("document.scrollingElement.scrollHeight")
    if pictures:
        picture = browser.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True,
                              clip={"x": 0, "y": 0, "width": width, "height": height, "scale": 1})
        (pathlib.Path(pictures) / f"{name}-{width}-{scheme}.png").write_bytes(base64.b64decode(picture["data"]))
    print(f"{name}, {width} px, {scheme}: {scroll} x {height}, " + ("; ".join(wrong) if wrong else "ok"))
    return not wrong


SEARCH = """(() => { const input = document.querySelector('.md-search__input'); input.focus(); input.value = 'workspace';
    input.dispatchEvent(new KeyboardEvent('keyup', { bubbles: true })) })()"""


def search(browser, page):
    def wait(condition):
        for _ in range(300):
            value = browser.value(condition)
            if value:
                return value
            time.sleep(0.1)
        return 0

    open_page(browser, page)
    ready = wait("document.querySelector('.md-search-result__meta').textContent.includes('Type to start')")
    browser.value(SEARCH)
    found = wait("document.querySelectorAll('.md-search-result__item').length") if ready else 0
    print(f"search: {found} pages found")
    return found > 0


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    path = pathlib.Path(sys.argv[1]).resolve()
    is_report = path.is_file()
    pages = [path] if is_report else sorted(p for p in path.rglob("*.html") if path / "api" not in p.parents and p.name != "404.html")
    if not pages:
        sys.exit(f"page_test: {path}: no page is there")
    pictures = sys.argv[2] if len(sys.argv) == 3 else None
    if pictures:
        pathlib.Path(pictures).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Browser(folder)
        try:
            for domain in ("Page", "Runtime", "Log", "Network"):
                browser.ask(domain + ".enable")
            fine = []
            for page in pages:
                name = "page" if is_report else page.relative_to(path).with_suffix("").as_posix().replace("/", "-")
                fine += [check(browser, page.as_uri(), name, width, scheme, pictures, is_report)
                         for width in (1280, 390) for scheme in ("light", "dark") if is_report or pictures or (width == 390) == (scheme == "dark")]
            if not is_report:
                fine.append(search(browser, (path / "index.html").as_uri()))
        finally:
            browser.close()
    sys.exit(0 if all(fine) else 1)


main()
