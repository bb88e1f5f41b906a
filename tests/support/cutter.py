"""A proxy in front of a server, which breaks a connection at a chosen word of its client."""

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

Address = str | tuple[str, int]
_CHUNK = 65536


class Cutter:
    """Forwards everything, until told to cut."""

    def __init__(self, listener: socket.socket, server: Address) -> None:
        """``server``: where the real one is."""
        self._listener = listener
        self._server = server
        self._word: bytes | None = None
        self._when: Literal["before", "after"] = "before"
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, word: bytes, when: Literal["before", "after"]) -> None:
        """The next connection whose client says this word breaks: ``before`` the server hears it,
        or ``after`` the server has answered, with the answer lost.
        """
        with self._lock:
            self._word, self._when = word, when

    def close(self) -> None:
        """Break all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            _end(one)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            server = _connect(self._server)
            self._open += [client, server]
            threading.Thread(target=self._speak, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answer, args=(client, server), daemon=True).start()

    def _speak(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(_CHUNK):
                with self._lock:
                    hit = self._word is not None and self._word in data
                    if hit:
                        self._word = None
                        self.cuts += 1
                if hit:
                    _end(client)
                    if self._when == "after":
                        server.sendall(data)
                        # Its answer goes to a client that is gone.
                        return
                    break
                server.sendall(data)
        _end(server)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(_CHUNK):
                client.sendall(data)
        _end(client)
        _end(server)


@contextmanager
def cutter(server: Address) -> Iterator[tuple[Cutter, Address]]:
    """A proxy of the same family as the server, and its address."""
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as folder:
        if isinstance(server, str):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(os.fspath(Path(folder) / "s"))
        else:
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
        listener.listen()
        made = Cutter(listener, server)
        try:
            yield made, listener.getsockname()
        finally:
            made.close()


def _connect(address: Address) -> socket.socket:
    made = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    made.connect(address)
    return made


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
