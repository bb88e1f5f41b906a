"""A bus for tests of the page: its jobs say what the test tells them to."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.site import Site, make_site

EVIL = "com.example.evil.thing"
MARKUP = "<b class=evil>bold</b><img src=x onerror=\"document.title='theirs'\">"
# Says what it is told, a line each time: "40 some words" is its progress, "end" its end.
TELLER = """\
import json, os, sys
pipe = open(sys.argv[1])
for line in iter(pipe.readline, ""):
    word, _, rest = line.strip().partition(" ")
    if word == "end":
        break
    if word.isdigit():
        os.write(3, json.dumps({"progress": int(word) / 100, "message": rest}).encode() + b"\\n")
    else:
        print(line, end="", file=sys.stderr, flush=True)
print(json.dumps({"args": [rest or "the end"]}))
"""
# A thousand lines a second until it is stopped; its result is how many they were.
TALKER = """\
import json, os, sys, time
count = 0
while not os.path.exists(sys.argv[1]):
    print("\\n".join(f"line {n}" for n in range(count, count + 100)), file=sys.stderr, flush=True)
    count += 100
    time.sleep(0.1)
print(json.dumps({"args": [count]}))
"""
HOSTILE = f"""\
import json, os, sys
text = {MARKUP!r}
os.write(3, json.dumps({{"progress": 0.5, "message": text}}).encode() + b"\\n")
print(text, file=sys.stderr)
print("\\x1b[31mred\\x1b[0m \\x1b]0;title\\x07 \\x00\\x07 \\u202egnp.exe", file=sys.stderr)
print("99 %\\r" * 1000 + "100 %", file=sys.stderr)
about = {{"remedy": text}}
print(json.dumps({{"error": "com.example.evil.error", "args": [text], "kwargs": about}}))
"""
TELL, TALK = "com.example.page.tell", "com.example.page.talk"
# Below it a component serves URIs, if there is one.
THEIRS = "com.example.page.theirs"


class Bus:
    """A site with tasks that do what the test says."""

    def __init__(self, site: Site, printed: str) -> None:
        self.site = site
        self.url = f"http://127.0.0.1:{site.port}/"
        self.printed = printed
        self.token = site.ticket("browser")
        self._pipe = os.open(site.folder / "pipe", os.O_RDWR)

    def tell(self, line: str) -> None:
        """To the job of TELL that reads first."""
        os.write(self._pipe, line.encode() + b"\n")

    def stop_talking(self) -> None:
        """Jobs of TALK end, those that begin later, too."""
        (self.site.folder / "stop").touch()

    def submit(self, uri: str, *args: Any, **options: Any) -> str:
        """Queue a job, as the operator; its id."""
        with self.site.joined() as operator:
            job = operator.call("taskbus.job.submit", uri, list(args), **options)
        return str(job)

    def cancel_all(self) -> None:
        """So that nothing keeps the site from going down."""
        with self.site.joined() as operator:
            for job in operator.call("taskbus.job.list", state=["queued", "running"]):
                operator.call("taskbus.job.cancel", job["id"])

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self._pipe)


@contextmanager
def running_bus() -> Iterator[Bus]:
    """It is up, and its jobs are cancelled in the end."""
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        folder = Path(name)
        os.mkfifo(folder / "pipe")
        site = make_site(folder, entries=_entries(folder))
        try:
            up = site.taskbus("up", "--detach")
            assert up.returncode == 0, up.stderr
            bus = Bus(site, up.stdout)
            yield bus
            bus.cancel_all()
            bus.close()
        finally:
            if site.taskbus("down").returncode != 0:
                site.kill()


def _entries(folder: Path) -> str:
    programs = {
        TELL: ("teller", TELLER, folder / "pipe"),
        TALK: ("talker", TALKER, folder / "stop"),
        "com.example.evil.*": ("hostile", HOSTILE, ""),
    }
    text = f'[api."{THEIRS}.*"]\nwamp = true\n'
    for uri, (name, code, argument) in programs.items():
        script = folder / f"{name}.py"
        script.write_text(code)
        command = json.dumps([sys.executable, str(script), str(argument)])
        text += f'[api."{uri}"]\nexec = {command}\nmode = "background"\n'
    return text
