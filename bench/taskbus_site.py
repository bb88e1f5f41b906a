"""The files of a taskbus site for the benchmark, and where its running bus keeps its own."""

import json
from collections.abc import Mapping
from pathlib import Path

from bench.environment import REPO

NAMESPACE = "com.example.bench"
SLOTS = 4
TASKS = ("noop", "stamp", "gate", "hold", "chatter")
PHP_TASKS = ("noop", "stamp", "gate")


class Site:
    """A folder with taskbus.toml, api.toml and var."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = folder / "taskbus.toml"
        self.var = folder / "var"

    def write(self, port: int, store: str = "", more: str = "", kind: str = "python") -> None:
        """Make the folder; `port` is the router's, `store` the URL of another store, `more` what
        else the settings say, `kind` what the tasks are written in.
        """
        self.folder.mkdir()
        sections: dict[str, Mapping[str, str | int]] = {
            "site": {"tasks": str(REPO)},
            "http": {"port": port},
            "worker": {"count": 1, "slots": SLOTS},
            "router": {
                "command": str(REPO / ".venv-router" / "bin" / "crossbar"),
                "config": str(REPO / "crossbar" / "config.json"),
                "web": str(REPO / "crossbar" / "web"),
            },
            "supervisor": {"config": str(REPO / "supervisor" / "taskbus.conf")},
        }
        if store:
            sections["store"] = {"url": store}
        text = "".join(_section(*each) for each in sections.items())
        self.settings.write_text(text + more)
        tasks = [(task, f"bench.tasks:{task}") for task in TASKS]
        if kind == "php":
            tasks = [(task, f"Bench\\{task.capitalize()}") for task in PHP_TASKS]
        entries = {
            f'api."{NAMESPACE}.{task}"': {kind: target, "mode": "background"}
            for task, target in tasks
        }
        (self.folder / "api.toml").write_text("".join(_section(*each) for each in entries.items()))
        (self.folder / "port").write_text(str(port))

    def port(self) -> int:
        """Return the router's port."""
        return int((self.folder / "port").read_text())

    def socket(self) -> str:
        """Return the router's socket."""
        return str(self.var / "run" / "router.sock")

    def ticket(self, authid: str) -> str:
        """Return what proves that one is `authid`."""
        return (self.var / "secrets" / authid).read_text().strip()

    def bridge(self) -> tuple[str, str]:
        """Return the key and the secret of POST /call."""
        lines = (self.var / "secrets" / "bridge").read_text().splitlines()
        told = dict(line.split("=", 1) for line in lines if "=" in line)
        return told["key"], told["secret"]

    def supervisord_pid(self) -> int | None:
        """Return the root of all processes, None when there is none."""
        try:
            return int((self.var / "run" / "supervisord.pid").read_text())
        except FileNotFoundError:
            return None


def _section(name: str, values: Mapping[str, str | int]) -> str:
    # What JSON makes of these texts and numbers is TOML as well.
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in values.items()]
    return f"[{name}]\n{''.join(lines)}\n"
