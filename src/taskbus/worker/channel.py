"""The bytes between parent, forker and child. Lean: the forker imports this.

Parent to child, on the child's socket: one line of JSON, the job. Child to parent: lines, each a
letter that says what it is and JSON.

Parent and forker speak in short packets (SOCK_SEQPACKET), one message each:

    parent -> forker   fork COUNT        make so many more spare children
                       kill PID SIGNAL   signal the child's whole process group
    forker -> parent   ready             the task modules are loaded
                       spares PID ...    with three descriptors each: job socket, stdout, stderr
                       exits PID STATUS ...
                                         wait status of each child whose process group is gone
"""

import os
import select
import socket
from collections.abc import Collection

RESULT, FAILURE, PROGRESS, WARNING = b"R", b"E", b"P", b"W"

PACKET = 256
_END = ord("\n")
# What most jobs fit in, and Python's own allocator.
_SHORT, _LONG = 448, 65536
# What is told of so many fits in a packet, and their descriptors in what Linux passes with one.
MOST_CHILDREN = 16


def send_frame(fd: int, kind: bytes, body: bytes) -> None:
    """Child: one line to the parent; JSON as the bus writes it has no line breaks."""
    data = kind + body + b"\n"
    while data:
        data = data[os.write(fd, data) :]


def send_job(sock: socket.socket, body: bytes) -> None:
    """Parent: the job to a spare child."""
    sock.sendall(body + b"\n")


def receive_job(fd: int) -> bytes | None:
    """Child: wait for the job; None when the parent let go of this spare."""
    data = os.read(fd, _SHORT)
    return data if data and data[-1] == _END else _whole(fd, data)


def _whole(fd: int, data: bytes) -> bytes | None:
    parts = []
    while data:
        parts.append(data)
        if data[-1] == _END:
            return b"".join(parts)
        data = os.read(fd, _LONG)
    return None


def wait_readable(fds: Collection[int], seconds: float | None = None) -> list[int]:
    """Those of the descriptors that have something to read, or have ended."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if seconds is None else seconds * 1000)]


class FrameReader:
    """Parent: bytes in, whole frames out."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The frames (kind, body) that these bytes complete."""
        self._begun.append(data)
        if b"\n" not in data:
            return []
        *lines, rest = b"".join(self._begun).split(b"\n")
        self._begun = [rest]
        return [(line[:1], line[1:]) for line in lines]
