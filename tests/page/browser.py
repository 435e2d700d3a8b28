"""Chromium without a screen, spoken to over its own pipe (--remote-debugging-pipe, Chrome DevTools Protocol)."""

import base64
import json
import os
import subprocess
import tempfile

PROGRAM = "chromium"
# No name is found and nothing is asked: what the page needs is in it.
CUT = "--host-resolver-rules=MAP * ~NOTFOUND"


class Browser:
    def __init__(self):
        self.profile = tempfile.TemporaryDirectory()
        to_it, self.out = os.pipe()
        self.into, from_it = os.pipe()

        def ends():
            # It reads from 3 and writes to 4.
            os.dup2(to_it, 30), os.dup2(from_it, 40)
            os.dup2(30, 3), os.dup2(40, 4)

        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", CUT]
        self.process = subprocess.Popen(
            [PROGRAM, *flags, "--remote-debugging-pipe", f"--user-data-dir={self.profile.name}"],
            preexec_fn=ends,
            pass_fds=(3, 4, to_it, from_it),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_it), os.close(from_it)
        self.number, self.unread, self.events = 0, b"", []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.profile.cleanup()

    def ask(self, method, session=None, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def read(self):
        while b"\0" not in self.unread:
            more = os.read(self.into, 1 << 16)
            if not more:
                raise SystemExit(f"{PROGRAM} ended")
            self.unread += more
        message, self.unread = self.unread.split(b"\0", 1)
        return json.loads(message)


class Look:
    """A page at one width: what it asked for, what it complained of, how it is laid out."""

    def __init__(self, browser, url, width, height, phone):
        self.browser = browser
        target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        browser.events.clear()
        for domain in ["Page", "Network", "Runtime", "Log"]:
            self.ask(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in browser.events):
            browser.events.append(browser.read())

    def ask(self, method, **params):
        return self.browser.ask(method, self.session, **params)

    def told(self, *methods):
        return [event["params"] for event in self.browser.events if event.get("method") in methods]

    def value(self, expression):
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def picture(self):
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True, format="webp", quality=75)
        return base64.b64decode(shot["data"])
