"""Behaviour logs become requests to learn from: sets, histories, filters, parts, targets, a report, leak checks."""

from trainer.logs.leaks import LeakError, check_no_leak
from trainer.logs.parts import RequestSplit
from trainer.logs.prepare import prepare
from trainer.logs.requests import build_requests, open_requests
from trainer.logs.split import NoRequestsError, split_requests
from trainer.logs.targets import query_targets

__all__ = [
    "LeakError",
    "NoRequestsError",
    "RequestSplit",
    "build_requests",
    "check_no_leak",
    "open_requests",
    "prepare",
    "query_targets",
    "split_requests",
]
