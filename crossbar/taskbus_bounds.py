"""Part of the router: bounds what the web transport takes of a request before anybody looks at it.

Twisted keeps a whole body, of whatever size, before it asks whose it is, and takes any byte for a
reason to wait on: one a minute would hold a connection for ever. What is replaced here is not a
public part: this belongs to the versions that requirements/router.txt names.
"""

import json
from http import HTTPStatus

from twisted.internet import reactor
from twisted.protocols.basic import LineReceiver
from twisted.web.http import HTTPChannel, Request

# As much as the bridge at /call takes.
_limit = 1_048_576
# So long who sends too much may go on before it is cut off: until then it can read why.
_PARTING_SECONDS = 2.0
_ERRORS = {
    400: "taskbus.error.invalid_argument",
    413: "taskbus.error.too_large",
}

_got_length = Request.gotLength
_got_chunk = Request.handleContentChunk


def bound(limit):
    """Bodies may have so many bytes; of several limits the largest holds."""
    global _limit
    _limit = max(_limit, limit)


def problem(status, detail):
    """The body of an error that is the router's own, as the gateway writes its errors."""
    error = _ERRORS.get(status, "taskbus.error.unreachable")
    # The error comes first: there the scripts for cron look for it.
    told = {
        "error": error,
        "type": f"urn:wamp:{error}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    return json.dumps(told).encode() + b"\n"


def _length(request, length):
    _got_length(request, length)
    if length is not None and length > _limit:
        _cut(request.channel)


def _chunk(request, data):
    _got_chunk(request, data)
    if request.content.tell() > _limit:
        _cut(request.channel)


def _cut(channel):
    body = problem(413, f"the body is larger than {_limit} bytes")
    channel.transport.write(
        b"HTTP/1.1 413 Content Too Large\r\nContent-Type: application/problem+json\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    channel.setTimeout(None)
    # Nothing of what still comes is read, or kept.
    channel.dataReceived = channel.rawDataReceived = channel.lineReceived = lambda _: None
    channel.allContentReceived = channel._send100Continue = lambda: None
    late = reactor.callLater(_PARTING_SECONDS, channel.transport.abortConnection)
    lost = channel.connectionLost

    def gone(reason):
        if late.active():
            late.cancel()
        lost(reason)

    channel.connectionLost = gone


def _received(channel, data):
    """A request's time begins with its first byte, and no later byte makes it longer."""
    if not channel._buffer and not channel.requests:
        channel.resetTimeout()
    return LineReceiver.dataReceived(channel, data)


Request.gotLength = _length
Request.handleContentChunk = _chunk
HTTPChannel.dataReceived = _received
