"""The bytes between parent, forker and child. Lean: the forker imports this.

Child to parent, on the child's socket: frames of one kind byte, a 32-bit big-endian length and a
JSON body. Parent to child: one length and one JSON body, the job.

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
import struct
from collections.abc import Collection

RESULT, FAILURE, PROGRESS, WARNING = b"R", b"E", b"P", b"W"

_FRAME = struct.Struct("!cI")
_LENGTH = struct.Struct("!I")
PACKET = 256
# What is told of so many fits in a packet, and their descriptors in what Linux passes with one.
MOST_CHILDREN = 16


def send_frame(fd: int, kind: bytes, body: bytes) -> None:
    """Child: one frame to the parent."""
    data = _FRAME.pack(kind, len(body)) + body
    while data:
        data = data[os.write(fd, data) :]


def send_job(sock: socket.socket, body: bytes) -> None:
    """Parent: the job to a spare child."""
    sock.sendall(_LENGTH.pack(len(body)) + body)


def receive_job(fd: int) -> bytes | None:
    """Child: wait for the job; None when the parent let go of this spare."""
    header = _exactly(fd, _LENGTH.size)
    return None if header is None else _exactly(fd, _LENGTH.unpack(header)[0])


def _exactly(fd: int, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        chunk = os.read(fd, size - len(data))
        if not chunk:
            return None
        data += chunk
    return bytes(data)


def wait_readable(fds: Collection[int], seconds: float | None = None) -> list[int]:
    """Those of the descriptors that have something to read, or have ended."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if seconds is None else seconds * 1000)]


class FrameReader:
    """Parent: bytes in, whole frames out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The frames (kind, body) that these bytes complete."""
        buffer = self._buffer
        buffer += data
        frames = []
        while len(buffer) >= _FRAME.size:
            kind, length = _FRAME.unpack_from(buffer)
            end = _FRAME.size + length
            if len(buffer) < end:
                break
            frames.append((kind, bytes(buffer[_FRAME.size : end])))
            del buffer[:end]
        return frames
