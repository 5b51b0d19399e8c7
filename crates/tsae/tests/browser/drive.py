"""Drives JupyterLab in a headless Chromium as a reader would, and says what was seen: one JSON object on stdout.

The request is a line of JSON on stdin: `{"browser": path, "notebook": path, "python": path, "out": folder for pictures}`. The notebook's
kernel must be found by the environment. The page is spoken to in the DevTools protocol, over websocket-client, which comes with Jupyter.
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import websocket

PATIENCE = 900  # seconds: a kernel may have to compile the library first


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def fetched(url, seconds=120):
    until = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


class Page:
    """A page of the browser."""

    def __init__(self, port):
        pages = [p for p in json.loads(fetched(f"http://127.0.0.1:{port}/json")) if p["type"] == "page"]
        self.socket = websocket.create_connection(pages[0]["webSocketDebuggerUrl"], suppress_origin=True, timeout=120)
        self.last = 0

    def call(self, method, **params):
        self.last += 1
        self.socket.send(json.dumps({"id": self.last, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.last:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]

    def js(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            sys.exit(f"{expression}: {json.dumps(answer['exceptionDetails'])[:600]}")
        return answer["result"].get("value")

    def wait(self, what, expression, seconds=PATIENCE, every=0.2):
        until = time.monotonic() + seconds
        while True:
            value = self.js(expression)
            if value:
                return value
            if time.monotonic() > until:
                self.picture(os.path.join(OUT, "gave-up.png"))
                sys.exit(f"waited {seconds} s in vain for {what}")
            time.sleep(every)

    def click(self, element):
        """Presses and releases the mouse over an element."""
        at = self.js(f"(() => {{ const b = {element}.getBoundingClientRect(); return {{x: b.x + b.width / 2, y: b.y + b.height / 2}}; }})()")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left" if kind != "mouseMoved" else "none", clickCount=1, **at)

    def picture(self, path, of=None):
        clip = {}
        if of:
            box = self.js(f"(() => {{ const e = {of}; e.scrollIntoView({{block: 'start'}}); const b = e.getBoundingClientRect(); "
                          "return {x: b.x, y: b.y, width: b.width, height: Math.min(b.height, 1100)}; })()")
            clip = {"clip": dict(box, scale=1)}
        data = self.call("Page.captureScreenshot", format="png", **clip)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
        return data


# The notebook's panel; focus may be elsewhere.
PANEL = "[...jupyterapp.shell.widgets('main')].find(w => w.sessionContext)"


def cell(i):
    """The i-th code cell, counted from 0."""
    return f"[...document.querySelectorAll('.jp-CodeCell')][{i}]"


def command(page, name, **arguments):
    # Some end only when the cells they run have ended.
    page.js(f"jupyterapp.shell.activateById({PANEL}.id); jupyterapp.commands.execute({json.dumps(name)}, {json.dumps(arguments)}); true")


def watch_training(page, at, seen):
    """Sees the bar move and the figure grow while the cell runs."""
    bar = f"({cell(at)}.querySelector('[role=progressbar]') || {{}}).ariaValueNow"
    figure = f"({cell(at)}.querySelector('.tsae-figure') || {{}}).src"
    runs = f"{cell(at)}.querySelector('.jp-InputPrompt').textContent.includes('*')"
    page.wait("a bar", f"{runs} && {bar}")
    first_bar = int(page.js(bar))
    page.wait("a figure that grows", f"{runs} && {figure}")
    page.wait("the figure on the page", f"{cell(at)}.querySelector('.tsae-figure').complete")
    first_figure, first_picture = page.js(figure), page.picture(os.path.join(OUT, "training-1.png"), cell(at))
    page.wait("the bar to move", f"{runs} && {bar} > {first_bar}")
    page.wait("the figure to grow", f"{runs} && {figure} != {json.dumps(first_figure)}")
    seen["pictures_differ"] = page.picture(os.path.join(OUT, "training-2.png"), cell(at)) != first_picture
    seen["bar_moved"] = [first_bar, int(page.js(bar))]
    seen["text_of_marks"] = page.js("document.body.textContent.includes('TSAE {')")


def drive(page, url, seen):
    page.call("Page.enable")
    page.call("Emulation.setDeviceMetricsOverride", width=1200, height=1200, deviceScaleFactor=1, mobile=False)
    page.call("Page.navigate", url=url)
    page.wait("JupyterLab", "window.jupyterapp && document.querySelectorAll('.jp-CodeCell').length > 5")
    is_idle = f"{PANEL}?.sessionContext.session?.kernel?.status == 'idle'"
    page.wait("the kernel", is_idle)
    code = page.js(f"{PANEL}.content.widgets.filter(w => w.model.type == 'code').map(w => w.model.sharedModel.getSource())")
    knobs, saes = (next(i for i, source in enumerate(code) if word in source) for word in ("let k:", ".fit("))
    tsae = next(i for i, source in enumerate(code) if "plot::reconstruction" in source)

    command(page, "notebook:run-all-cells")
    watch_training(page, saes, seen)
    # The stop button itself. Cells that wait behind the one that is stopped go on when it has ended: as many presses as it takes.
    page.click("document.querySelector('[data-jp-item-name=interrupt]')")
    page.wait("the stop", f"!{cell(saes)}.querySelector('.jp-InputPrompt').textContent.includes('*')")
    seen["stopped"] = page.js(f"{cell(saes)}.querySelector('.jp-OutputArea').textContent")
    page.picture(os.path.join(OUT, "stopped.png"), cell(saes))
    page.wait("the cells behind it", is_idle)

    # Another k, and the cells below once more.
    page.js(f"(() => {{ const all = {PANEL}.content; const w = all.widgets.filter(w => w.model.type == 'code')[{knobs}];"
            "w.model.sharedModel.setSource(w.model.sharedModel.getSource().replace('let k: usize = 16', 'let k: usize = 8'));"
            "all.activeCellIndex = all.widgets.indexOf(w); return true; })()")
    before = page.js(f"({cell(tsae)}.querySelector('.tsae-figure') || {{}}).src || ''")
    command(page, "notebook:run-all-below")
    page.wait("the new curve", f"({cell(tsae)}.querySelector('.jp-OutputArea-executeResult .tsae-figure') || {{}}).src")
    page.wait("the last cell", f"{is_idle} && !document.querySelector('.jp-InputPrompt')?.textContent.includes('*')")
    seen["new_curve"] = page.js(f"{cell(tsae)}.querySelector('.jp-OutputArea-executeResult .tsae-figure').src") != before
    seen["errors"] = page.js("[...document.querySelectorAll('[data-mime-type=\"application/vnd.jupyter.stderr\"],"
                             "[data-mime-type=\"application/vnd.jupyter.error\"]')].map(e => e.textContent)")
    seen["page"] = page.js("[...document.querySelectorAll('.jp-OutputArea')].map(e => e.textContent).join('\\n')")
    page.picture(os.path.join(OUT, "light.png"), cell(tsae))
    command(page, "apputils:change-theme", theme="JupyterLab Dark")
    page.wait("the dark theme", "document.body.dataset.jpThemeLight == 'false'")
    time.sleep(1)  # the style sheets of the theme
    page.picture(os.path.join(OUT, "dark.png"), cell(tsae))

    # A cell that fails, and one behind it.
    fails, behind = len(code) - 2, len(code) - 1
    for i, source in ((fails, "let none: Vec<u32> = Vec::new();\nlet lost: u32 = none[3];"), (behind, 'println!("reached");')):
        page.js(f"{PANEL}.content.widgets.filter(w => w.model.type == 'code')[{i}].model.sharedModel.setSource({json.dumps(source)}); true")
    page.js(f"(() => {{ const all = {PANEL}.content; const w = all.widgets.filter(w => w.model.type == 'code')[{fails}];"
            "all.activeCellIndex = all.widgets.indexOf(w); return true; })()")
    command(page, "notebook:run-all-below")
    page.wait("the error", f"{cell(fails)}.querySelector('.jp-OutputArea').textContent.includes('panicked')")
    page.wait("the end of the run", f"{is_idle} && !{cell(behind)}.querySelector('.jp-InputPrompt').textContent.includes('*')")
    seen["failed"] = page.js(f"{cell(fails)}.querySelector('.jp-OutputArea').textContent")
    seen["behind"] = page.js(f"{cell(behind)}.querySelector('.jp-OutputArea').textContent")
    page.picture(os.path.join(OUT, "failed.png"), cell(fails))


def main():
    global OUT
    request = json.loads(sys.stdin.readline())
    OUT = request["out"]
    folder, name = os.path.split(request["notebook"])
    profile = tempfile.mkdtemp()
    settings = os.path.join(profile, "settings", "@jupyterlab", "notebook-extension")
    os.makedirs(settings)
    with open(os.path.join(settings, "tracker.jupyterlab-settings"), "w", encoding="utf-8") as file:
        json.dump({"windowingMode": "none"}, file)  # all cells are on the page, also those out of sight
    port, tools = free_port(), free_port()
    lab = subprocess.Popen(
        [request["python"], "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
         "--IdentityProvider.token=reader", "--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={folder}"],
        env=dict(os.environ, JUPYTERLAB_SETTINGS_DIR=os.path.join(profile, "settings")),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(os.path.join(OUT, "jupyterlab.log"), "w"),
    )
    browser = subprocess.Popen(
        [request["browser"], "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
         f"--remote-debugging-port={tools}", f"--user-data-dir={os.path.join(profile, 'browser')}", "about:blank"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    seen = {}
    try:
        fetched(f"http://127.0.0.1:{port}/api?token=reader")
        fetched(f"http://127.0.0.1:{tools}/json")
        drive(Page(tools), f"http://127.0.0.1:{port}/lab/tree/{name}?token=reader", seen)
        print(json.dumps(seen))
    finally:
        browser.terminate()
        lab.terminate()
        for one in (browser, lab):
            try:
                one.wait(timeout=20)
            except subprocess.TimeoutExpired:
                one.kill()
        shutil.rmtree(profile, ignore_errors=True)


main()
