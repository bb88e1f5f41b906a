"""The page's sources: their own tests, and that what is served was made of them."""

import os
import subprocess
from pathlib import Path

from tests.support.processes import PATIENCE, REPOSITORY

WEB = REPOSITORY / "crossbar/web"


def run(*command: object) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": f"{REPOSITORY}/.venv/bin:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_is_served_is_what_the_sources_become(tmp_path: Path) -> None:
    run("npm", "run", "build", "-w", "page", "--", "--outDir", tmp_path / "web")
    is_same = files(tmp_path / "web") == files(WEB)
    assert is_same, "the sources have changed: 'make page', and commit crossbar/web"


def test_texts_are_read_and_shown_as_they_should_be() -> None:
    run("node", "--test", *sorted((REPOSITORY / "page/test").glob("*.test.ts")))
