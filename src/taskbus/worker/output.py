"""What a job writes to stdout and stderr, as its journal keeps it: exact, in order, bounded."""

import base64
import codecs
from typing import Any

from taskbus.model.portable import is_portable

STREAMS = ("stdout", "stderr")
# Bytes of one job, of both streams together.
MOST_OUTPUT = 1024 * 1024
# Bytes of one event. As JSON it is up to six times as long, and has to fit into one message.
LARGEST_CHUNK = 65536

_DECODER = codecs.getincrementaldecoder("utf-8")


class Output:
    """Bytes in, chunks of JSON out: text where it is UTF-8, base64 where it is not, or begins with
    NUL. Their order is that in which they were read, which between the two streams need not be that
    in which they were written.

    What is beyond MOST_OUTPUT is counted only: ``{"stream", "text": "", "dropped": bytes}`` tells
    where it began, and another one at the end how much more it was.
    """

    def __init__(self) -> None:
        self._chunks: list[tuple[str, bytes]] = []
        self._decoders = {name: _DECODER() for name in STREAMS}
        self._room = MOST_OUTPUT
        self._dropped = dict.fromkeys(STREAMS, 0)
        self._cut: set[str] = set()
        # Whether ``take`` has something to tell before the end.
        self.has_news = False

    def add(self, stream: str, data: bytes) -> None:
        """More of what was read: no more than LARGEST_CHUNK."""
        kept = data[: self._room]
        self._room -= len(kept)
        if len(kept) < len(data):
            self._dropped[stream] += len(data) - len(kept)
            self.has_news |= stream not in self._cut
        if kept:
            self._keep(stream, kept)

    def _keep(self, stream: str, data: bytes) -> None:
        self.has_news = True
        if self._chunks and self._chunks[-1][0] == stream:
            whole = self._chunks[-1][1] + data
            if len(whole) <= LARGEST_CHUNK:
                self._chunks[-1] = stream, whole
                return
        self._chunks.append((stream, data))

    def take(self, final: bool) -> list[dict[str, Any]]:
        """What was added since; ``final``: and nothing more will be."""
        if self._room == MOST_OUTPUT:
            return []
        self.has_news = False
        taken = [self._told(stream, data) for stream, data in self._chunks]
        self._chunks = []
        for stream in STREAMS:
            begins = self._dropped[stream] and stream not in self._cut
            if begins or final:
                taken += self._rest(stream)
        return [one for one in taken if one.get("text") != "" or "dropped" in one]

    def _told(self, stream: str, data: bytes) -> dict[str, Any]:
        decoder = self._decoders[stream]
        held = decoder.getstate()[0]
        try:
            text = decoder.decode(data)
        except UnicodeDecodeError:
            decoder.reset()
            raw = held + data
        else:
            if is_portable(text):
                return {"stream": stream, "text": text}
            raw = text.encode()
        return {"stream": stream, "base64": base64.b64encode(raw).decode()}

    def _rest(self, stream: str) -> list[dict[str, Any]]:
        """The half character that no other half follows, and what is dropped."""
        told: list[dict[str, Any]] = []
        if held := self._decoders[stream].getstate()[0]:
            told.append({"stream": stream, "base64": base64.b64encode(held).decode()})
            self._decoders[stream].reset()
        if dropped := self._dropped[stream]:
            told.append({"stream": stream, "text": "", "dropped": dropped})
            self._dropped[stream] = 0
            self._cut.add(stream)
        return told
