"""A real gRPC server whose answers the test writes, and a client of either kind that the test drives without await."""

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from genrecall.client import AsyncClient, Client
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallServicer, add_GenerativeRecallServicer_to_server


class Scripted(GenerativeRecallServicer):
    """Answers truthfully once it has failed as `failures` say; each call takes one off.

    A failure is a status, or a status and its pushback. `requests`, `arrived` (monotonic seconds) and `left` (seconds
    of its deadline) hold one entry for each call that arrived. items: of the two SIDs of a prompt; (): an older server.
    refuse: a text that is invalid.
    """

    def __init__(
        self,
        *failures,
        codebook="v1",
        max_queries=256,
        max_items=256,
        max_request_bytes=1 << 20,
        takes_s=0.0,
        items=(4, 1),
        refuse=None,
    ):
        self.failures, self.codebook, self.takes_s, self.items = list(failures), codebook, takes_s, items
        self.limits = pb.Limits(max_queries=max_queries, max_items=max_items, max_request_bytes=max_request_bytes)
        self.refuse = refuse
        self.requests, self.arrived, self.left = [], [], []

    def Generate(self, request, context):
        self._begin(request, context)
        for at, query in enumerate(request.queries):
            if query.text == self.refuse:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"queries[{at}].text is {query.text}")
        results = [
            pb.Generated(
                codes=[len(q.text), 0, 1, len(q.user.recent_sids), 2, 3], scores=[-0.5, -1.0], items=self.items
            )
            for q in request.queries
        ]
        timings = pb.Timings(queue_ms=1, total_ms=4)
        return pb.GenerateResponse(codebook=self.codebook, model="lm-0", results=results, timings=timings)

    def Score(self, request, context):
        self._begin(request, context)
        firsts = request.codes[::3]
        scores = [-float(c) if c < 100 else float("-inf") for c in firsts]
        return pb.ScoreResponse(codebook=self.codebook, model="lm-0", scores=scores)

    def Encode(self, request, context):
        self._begin(request, context)
        codes = [c for item in request.items for c in (len(item.title), len(item.category), len(item.brand))]
        return pb.EncodeResponse(codebook=self.codebook, codes=codes)

    def Describe(self, request, context):
        self._begin(request, context)
        return pb.DescribeResponse(current_codebook=self.codebook, limits=self.limits)

    def kinds(self):
        return [type(request).__name__.removesuffix("Request") for request in self.requests]

    def _begin(self, request, context):
        self.requests.append(request)
        self.arrived.append(time.monotonic())
        self.left.append(context.time_remaining())
        time.sleep(self.takes_s)
        if self.failures:
            failure = self.failures.pop(0)
            code, pushback = failure if isinstance(failure, tuple) else (failure, None)
            if pushback is not None:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", str(pushback)),))
            context.abort(code, "as scripted")


@contextmanager
def serving(servicer, port=0, credentials=None):
    """The server's port, while it answers."""
    options = [("grpc.max_receive_message_length", servicer.limits.max_request_bytes), ("grpc.so_reuseport", 0)]
    server = grpc.server(ThreadPoolExecutor(4), options=options)
    add_GenerativeRecallServicer_to_server(servicer, server)
    address = f"127.0.0.1:{port}"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


class Cable:
    """Passes bytes between clients and a server; `cut` loses all that the connections of before are sent, silently."""

    def __init__(self, port):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._server, self._sound = port, []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        for sound in self._sound:
            sound.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)  # ends the wait in `_accept`
        self._listener.close()

    def _accept(self):
        try:
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._server))
                sound = threading.Event()
                sound.set()
                self._sound.append(sound)
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(*ends, sound), daemon=True).start()
        except OSError:
            pass  # the cable or the server is gone

    def _pass(self, source, sink, sound):
        try:
            while data := source.recv(1 << 16):
                if sound.is_set():
                    sink.sendall(data)
        except OSError:
            pass
        sink.close()


class Driven:
    """An `AsyncClient` in a loop of its own, called as a `Client` is."""

    def __init__(self, runner, *arguments, **options):
        async def make():
            return AsyncClient(*arguments, **options)

        self._runner = runner
        self._client = runner.run(make())

    def __getattr__(self, name):
        return lambda *arguments, **options: self._runner.run(getattr(self._client, name)(*arguments, **options))


@contextmanager
def connected(kind, endpoint, **options):
    if kind is Client:
        with Client(endpoint, **options) as client:
            yield client
        return
    with asyncio.Runner() as runner:
        client = Driven(runner, endpoint, **options)
        yield client
        client.close()
