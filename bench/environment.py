"""The peers' Python environment: `.venv-bench` beside the harness's own `.venv`."""

import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).parent.parent
REQUIREMENTS = REPO / "bench" / "requirements.txt"


def peer_python() -> Path:
    """Return the peers' interpreter; make the environment anew if its requirements changed."""
    home = REPO / ".venv-bench"
    python = home / "bin" / "python"
    installed = home / "requirements.txt"
    if not installed.exists() or installed.read_text() != REQUIREMENTS.read_text():
        print(f"making {home.name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        install = ["-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS)]
        subprocess.run([str(python), *install], check=True)
        installed.write_text(REQUIREMENTS.read_text())
    return python


def pins() -> list[str]:
    """Return the peers' pinned versions."""
    lines = REQUIREMENTS.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]
