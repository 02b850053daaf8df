"""How much the decoder may say beside the evidence, decided on dev queries after both are trained.

The gate g of a group of queries is the decoder's share of a mixture, (1 - g) evidence + g decoder. It starts shut and
opens as far as the likelihood of the dev queries' items asks for, a problem of one dimension with one optimum, and only
where their recall is not lower for it. A group without dev queries takes the gate of new queries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from genrecall.decoding.config import Gates
from genrecall.decoding.search import Prefix
from trainer.generator.dev import DevQueries
from trainer.generator.evidence import WIDTH, TrainedEvidence, targets
from trainer.generator.stages import Learner, request_inputs, with_related

GATES = np.linspace(0, 0.95, 20)
PrefixOf = Callable[[np.ndarray], Prefix]
"""Rows of dev queries, int64 [n] -> what the search starts from, with the evidence."""


def fit_gates(learner: Learner, evidence: TrainedEvidence) -> tuple[Gates, dict[str, Any]]:
    """The gates, and how each was found."""
    context, metrics = learner.context, {}
    gates = {"new": 0.0}
    if context.held_out.texts:
        dev = context.dev(context.held_out, context.known)
        terms, familiar = evidence.terms(context.held_out.texts)
        prefix = _with_evidence(learner, evidence, terms, lambda rows: learner.inputs("held_out", rows))
        for name, group in (("new", ~familiar), ("familiar", familiar)):
            if group.any():
                gates[name], metrics[name] = fit_gate(learner, dev, prefix, np.flatnonzero(group))
    if context.user is not None and context.held_out_requests is not None and len(context.held_out_requests):
        pool = "held_out_requests"
        requests = with_related(learner, pool, context.held_out_requests)
        known = np.flatnonzero((requests.recent >= 0).any(1) | (requests.profile >= 0).any(1))
        dev = context.dev(requests.judged())
        terms, _ = evidence.terms([requests.texts[t] for t in requests.text])
        prefix = _with_evidence(learner, evidence, terms, lambda rows: request_inputs(learner, pool, requests, rows))
        if len(known):
            gates["user"], metrics["user"] = fit_gate(learner, dev, prefix, known)
    for name in ("familiar", "user"):
        gates.setdefault(name, gates["new"])
    return Gates(**gates), metrics


@torch.no_grad()
def fit_gate(learner: Learner, dev: DevQueries, prefix: PrefixOf, queries: np.ndarray) -> tuple[float, dict[str, Any]]:
    """The gate of some dev queries, int64 [n], and their recall with it shut and as the likelihood has it."""
    learner.model.eval()
    policy = learner.model.policy
    query, sid, share = targets(dev.judged, learner.context.rows)
    of_evidence, of_decoder, weight = [], [], []
    for number in queries:
        start, own = prefix(np.array([number])), query == number
        assert start.evidence is not None
        rows = torch.from_numpy(sid[own]).to(start.evidence.device)
        of_evidence.append(start.evidence[0, rows].cpu().numpy())
        of_decoder.append(policy.log_probs(start, rows.unsqueeze(0)).sum(-1)[0].cpu().numpy())
        weight.append(share[own])
    likeliest = likeliest_gate(*(np.concatenate(parts) for parts in (of_evidence, of_decoder, weight)))
    metrics: dict[str, Any] = {"queries": len(queries), "likeliest": likeliest}
    if not likeliest:
        return 0.0, metrics

    def opened(rows: np.ndarray) -> Prefix:
        start = prefix(rows)
        return replace(start, gate=torch.full((len(rows),), likeliest, device=start.mask.device))

    shut, mixed = (dev.search(policy, of, queries, WIDTH).mean() for of in (prefix, opened))
    metrics["recall"] = {"shut": float(shut), "likeliest": float(mixed)}
    return (likeliest if mixed >= shut else 0.0), metrics


def likeliest_gate(evidence: np.ndarray, decoder: np.ndarray, share: np.ndarray) -> float:
    """The gate, of GATES, that makes items likeliest: log p of the SID of each by either, and its weight, float [w]."""
    with np.errstate(divide="ignore"):  # the log of a shut gate
        values = [(np.logaddexp(np.log1p(-g) + evidence, np.log(g) + decoder) * share).sum() for g in GATES]
    return float(GATES[int(np.argmax(values))])


def _with_evidence(
    learner: Learner, evidence: TrainedEvidence, terms: torch.Tensor, inputs: Callable[[np.ndarray], Any]
) -> PrefixOf:
    """Prefixes with the gate shut."""

    def of(rows: np.ndarray) -> Prefix:
        start = learner.prefix(inputs(rows))
        module, tables = evidence.module.to(start.mask.device), learner.model.policy.tables
        return replace(start, evidence=module(start.text, terms[torch.from_numpy(rows)].to(start.mask.device), tables))

    return of
