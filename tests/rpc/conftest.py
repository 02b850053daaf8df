from contextlib import ExitStack

import pytest

from genrecall.rpc.aio import AsyncClient
from genrecall.rpc.client import Client
from tests.rpc.scripted import connected


@pytest.fixture(params=[Client, AsyncClient])
def connect(request):
    """Makes a client of either kind: by the port of a local server, or by an endpoint."""
    with ExitStack() as stack:

        def make(where, **options):
            endpoint = f"127.0.0.1:{where}" if isinstance(where, int) else where
            return stack.enter_context(connected(request.param, endpoint, **options))

        yield make
