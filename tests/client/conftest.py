from contextlib import ExitStack

import pytest

from genrecall.client import AsyncClient, Client
from tests.client.scripted import connected


@pytest.fixture(params=[Client, AsyncClient])
def connect(request):
    """Makes a client of either kind: by the port of a local server, or by an endpoint."""
    with ExitStack() as stack:

        def make(where, **options):
            endpoint = f"127.0.0.1:{where}" if isinstance(where, int) else where
            return stack.enter_context(connected(request.param, endpoint, **options))

        yield make
