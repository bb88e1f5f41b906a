"""Where servers of tests have their files."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOM = 2**30


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A temporary folder, in memory where there is room: servers sync to the disk all the time."""
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > _ROOM
    with tempfile.TemporaryDirectory(prefix="tb", dir=memory if has_room else "/tmp") as folder:
        yield Path(folder)
