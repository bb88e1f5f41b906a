"""Reports of progress from outside: whoever has the token of an attempt can tell how far it is.

The attempt's process makes the token, and listens on a socket that is named by its job and that
ends with it: the token is nowhere else, and good for this attempt alone. Both sides speak one line
of JSON: ``{"token": str, "progress": float, "message": str}``, answered by ``true`` or ``false``.
"""

import hmac
import json
import secrets
import socket
import threading
from typing import Any

from taskbus.model.json import dump
from taskbus.model.task import TaskInput

_SECONDS = 2.0
_LONGEST = 16384


class Reports:
    """A context in which reports for the task are heard."""

    def __init__(self, task: TaskInput) -> None:
        self.token = secrets.token_urlsafe(24)
        self._task = task
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._hear, daemon=True)

    def __enter__(self) -> "Reports":
        try:
            self._listener.bind(_address(str(self._task.details.get("job", ""))))
        except OSError as error:
            # An attempt that lost its claim may not be gone yet.
            self._task.warn(f"nobody can report this attempt's progress: {error.strerror}")
        else:
            self._listener.listen()
            self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._thread.is_alive():
            self._listener.shutdown(socket.SHUT_RDWR)
            # What this thread tells and what the caller tells next must not mix.
            self._thread.join()
        self._listener.close()

    def _hear(self) -> None:
        while True:
            try:
                talk, _ = self._listener.accept()
            except OSError:
                return
            with talk:
                try:
                    talk.settimeout(_SECONDS)
                    talk.sendall(dump(self._take(_line(talk))).encode() + b"\n")
                except (OSError, ValueError, KeyError, TypeError):
                    pass  # Whoever this was learns that it was not heard.

    def _take(self, line: bytes) -> bool:
        told = json.loads(line)
        if not hmac.compare_digest(str(told["token"]).encode(), self.token.encode()):
            return False
        self._task.progress(told["progress"], told["message"])
        return True


def report(job: str, token: str, progress: float, message: str) -> bool | None:
    """Tell the progress of the job's attempt, on the same host; False where the token is not its
    own, None where there is no attempt that listens.
    """
    told = dump({"token": token, "progress": progress, "message": message}).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
        talk.settimeout(_SECONDS)
        try:
            talk.connect(_address(job))
            talk.sendall(told + b"\n")
            answer = _line(talk)
        except OSError:
            return None
    return None if not answer else answer == b"true\n"


def _address(job: str) -> bytes:
    # In the abstract namespace: no file is left where the process is killed.
    return b"\0taskbus-progress-" + job.encode()


def _line(talk: socket.socket) -> bytes:
    """Up to its end; less where the other side has gone, or says too much."""
    line = b""
    while not line.endswith(b"\n") and len(line) < _LONGEST:
        chunk = talk.recv(_LONGEST - len(line))
        if not chunk:
            break
        line += chunk
    return line
