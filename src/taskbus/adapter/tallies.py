"""Tallies in files, one for each program; what was counted in the last second may be lost."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_ENDING = ".tally"


def read_tally(folder: Path, program: str) -> dict[str, Any]:
    """What the program has saved last; empty where that is nothing."""
    return _read(folder / f"{program}{_ENDING}")


def read_tallies(folder: Path) -> Iterator[dict[str, Any]]:
    """What all programs have saved, those that have stopped, too."""
    return map(_read, sorted(folder.glob(f"*{_ENDING}")))


def tally_saver(folder: Path, program: str) -> Callable[[Mapping[str, Any]], None]:
    """Saves in one step. Where that fails, counts are lost and nothing else."""
    file, fresh = folder / f"{program}{_ENDING}", folder / f".{program}{_ENDING}.new"

    def save(told: Mapping[str, Any]) -> None:
        try:
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o660), "w") as stream:
                json.dump(told, stream)
            fresh.rename(file)
        except OSError as error:
            log.warning("counts were not saved: %s", error)

    return save


def _read(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
