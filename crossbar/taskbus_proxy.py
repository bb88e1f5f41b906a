"""Part of the router: passes a request on to the bus's gateway, and its answer back as it comes.

Each request has a connection of its own to the gateway's Unix socket, so that no part of it can be
taken for the beginning of another, and whichever side hangs up, the other hears of it. An answer is
read no faster than the client takes it.

Crossbar makes one Proxy for each path service of type "resource" that names it. ``extra``:
``socket``, the path of the gateway's socket, and ``body_limit``, in bytes.
"""

import taskbus_bounds
from twisted.internet import reactor
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from txaio import make_logger

_log = make_logger()

_CONNECT_SECONDS = 10
_MOST_HEAD = 65_536
# What concerns one connection alone (RFC 9110, 7.6.1).
_OF_A_CONNECTION = frozenset(
    {
        b"connection", b"expect", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
# What only the router tells the gateway; from outside it is dropped.
_OF_PROXIES = frozenset({b"forwarded", b"via", b"x-real-ip"})
_OURS = frozenset({b"content-length"}) | _OF_PROXIES
_OUR_PREFIX = b"x-forwarded-"
# Sent twice, who reads the first would disagree with who reads the last.
_SINGLE = (b"authorization", b"content-type", b"host", b"idempotency-key", b"if-match")


class Proxy(Resource):
    """One path of the web transport, with all below it."""

    isLeaf = True

    def __init__(self, extra):
        super().__init__()
        self._limit = int(extra["body_limit"])
        self._endpoint = UNIXClientEndpoint(reactor, extra["socket"], timeout=_CONNECT_SECONDS)
        taskbus_bounds.bound(self._limit)

    def render(self, request):
        for name in _SINGLE:
            if len(request.requestHeaders.getRawHeaders(name, ())) > 1:
                return _refused(request, 400, f"the header {name.decode()} was sent more than once")
        body = request.content.read(self._limit + 1)
        if len(body) > self._limit:
            return _refused(request, 413, f"the body is larger than {self._limit} bytes")
        connecting = self._endpoint.connect(
            _Connection.forProtocol(lambda: _Upstream(request, body))
        )
        connecting.addErrback(_unreachable, request)
        request.notifyFinish().addErrback(lambda _: connecting.cancel())
        return NOT_DONE_YET


class _Connection(Factory):
    noisy = False


class _Upstream(Protocol):
    """The connection to the gateway for one request. HTTP/1.0: an answer ends with its length, or
    with the connection.
    """

    def __init__(self, request, body):
        self._request = request
        self._body = body
        self._head = b""
        self._has_answer = False
        self._is_over = False
        # Bytes of the answer that are still to come; None where only its end tells.
        self._missing = None

    def connectionMade(self):
        request = self._request
        if request._disconnected:
            self._is_over = True
            self.transport.abortConnection()
            return
        request.notifyFinish().addErrback(self._hang_up)
        lines = [request.method + b" " + request.uri + b" HTTP/1.0"]
        lines += [name + b": " + value for name, value in _passed(request.requestHeaders)]
        lines.append(b"X-Forwarded-For: " + request.getClientAddress().host.encode())
        lines.append(b"X-Forwarded-Proto: " + (b"https" if request.isSecure() else b"http"))
        if _came_further(request.requestHeaders):
            lines.append(b"X-Forwarded-Beyond: yes")
        lines.append(b"Content-Length: %d" % len(self._body))
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + self._body)
        self._body = b""

    def dataReceived(self, data):
        if self._has_answer:
            self._pass_on(data)
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if end:
            self._begin(head)
            self._pass_on(rest)
        elif len(self._head) > _MOST_HEAD:
            self.transport.abortConnection()

    def connectionLost(self, _reason):
        if self._is_over:
            return
        if not self._has_answer:
            self._is_over = True
            _answer(self._request, 502, "the gateway broke the connection")
        elif self._missing:
            self._is_over = True
            # The client must not take the part for the whole.
            self._request.channel.transport.abortConnection()
        else:
            self._end()

    def _begin(self, head):
        self._head = b""
        self._has_answer = True
        request = self._request
        first, *lines = head.split(b"\r\n")
        _, status, message = (first + b"  ").split(b" ", 2)
        request.setResponseCode(int(status), message.strip() or None)
        headers = request.responseHeaders
        # The defaults of Twisted; the gateway has its own.
        for name in (b"content-type", b"server", b"date"):
            headers.removeHeader(name)
        for line in lines:
            name, _, value = line.partition(b":")
            if name.lower() not in _OF_A_CONNECTION:
                headers.addRawHeader(name, value.strip())
        length = headers.getRawHeaders(b"content-length")
        if length and request.method != b"HEAD":
            self._missing = int(length[0])
        # At once, or who follows a stream would not hear that it has begun.
        request.write(b"")
        request.registerProducer(self.transport, True)

    def _pass_on(self, data):
        if self._is_over:
            return
        if data:
            self._request.write(data)
        if self._missing is not None:
            self._missing -= len(data)
            if self._missing <= 0:
                self._end()

    def _end(self):
        self._is_over = True
        self._request.unregisterProducer()
        self._request.finish()
        self.transport.loseConnection()

    def _hang_up(self, _failure):
        self._is_over = True
        self.transport.abortConnection()


def _passed(headers):
    """What the gateway gets of a request's headers."""
    named = {
        word.strip().lower()
        for value in headers.getRawHeaders(b"connection", ())
        for word in value.split(b",")
    }
    for name, values in headers.getAllRawHeaders():
        plain = name.lower()
        if plain in _OF_A_CONNECTION or plain in _OURS or plain.startswith(_OUR_PREFIX):
            continue
        # "Connection: Authorization" must not make us drop it. A twin with an underscore is some
        # reader's header with a dash.
        if (plain in named and plain not in _SINGLE) or b"_" in plain:
            continue
        for value in values:
            yield name, value


def _came_further(headers):
    """Whether another proxy speaks of itself, and its client may be anywhere."""
    names = (name.lower() for name, _ in headers.getAllRawHeaders())
    return any(name in _OF_PROXIES or name.startswith(_OUR_PREFIX) for name in names)


def _unreachable(failure, request):
    if not request._disconnected:
        _log.warn("the gateway cannot be reached: {error}", error=failure.getErrorMessage())
        request.setHeader(b"Retry-After", b"1")
        _answer(request, 503, "the gateway cannot be reached")


def _answer(request, status, detail):
    request.write(_refused(request, status, detail))
    request.finish()


def _refused(request, status, detail):
    """The body of the answer where the gateway has none."""
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", b"application/problem+json")
    return taskbus_bounds.problem(status, detail)
