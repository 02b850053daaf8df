"""The typed Python clients of the inference server, blocking and asynchronous."""

from genrecall.client.async_client import AsyncClient
from genrecall.client.errors import ServerError
from genrecall.client.messages import Item, Reply
from genrecall.client.retry import Retry
from genrecall.client.sync_client import Client

__all__ = ["AsyncClient", "Client", "Item", "Reply", "Retry", "ServerError"]
