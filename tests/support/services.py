"""The example services of ``workers/``, served as their first lines say."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.processes import REPOSITORY
from tests.support.site import eventually

COMMANDS = {
    "php": ["php", "-S", "127.0.0.1:{port}", "workers/stock.php"],
    "wsgi": [sys.executable, "workers/stock.py", "{port}"],
}


@contextmanager
def service(kind: str) -> Iterator[str]:
    """The URL of one of COMMANDS."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    words = [word.format(port=address[1]) for word in COMMANDS[kind]]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(words, cwd=REPOSITORY, stdout=quiet, stderr=quiet) as process:
        try:
            eventually(lambda: process.poll() is not None or _listens(address))
            assert process.poll() is None
            yield f"http://127.0.0.1:{address[1]}/rpc"
        finally:
            process.kill()


def _listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address).close()
    except ConnectionRefusedError:
        return False
    return True
