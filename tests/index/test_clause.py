"""The clause composed without the plugin: what is asked, what is refused, what the body becomes. No node, no server."""

import math
from collections import Counter
from copy import deepcopy
from dataclasses import replace

import grpc
import numpy as np
import pytest

from genrecall.client import Reply, ServerError
from index_mappings.compose.composer import ClauseError, GenerateCall, NoSids, Settings, compose_steps
from index_mappings.compose.mappings import Mappings, ReadMapping

TEXT = "red shoes"
GONE = ServerError("no inference server answers", grpc.StatusCode.UNAVAILABLE)


def generative(**options):
    return {"generative": {"sid": {"query_text": TEXT, **options}}}


def given(*sids, **options):
    return {"generative": {"sid": {"sids": list(sids), **options}}}


def index(codebook, **types):
    meta = {} if codebook is None else {"_meta": {"genrecall": {"codebook": codebook}}}
    properties = {field: {"type": kind} for field, kind in {"sid": "keyword", **types}.items() if kind}
    return {"mappings": {**meta, "properties": properties}}


def reply(call: GenerateCall) -> Reply:
    """Two SIDs a prompt: the first code tells the length of its text, so that answers can be told apart."""
    codes = [np.array([[len(p.text), 0, 1], [len(p.text), 0, 2]], np.int32) for p in call.queries]
    scores = [np.log(np.array([0.5, 0.25], np.float32))] * len(codes)
    return Reply(call.codebook, "lm-0", codes, scores, [np.array([4, 1])] * len(codes), {})


class Run:
    """`compose_steps` with the answers of a table of mappings and of `server`; notes what it asked."""

    def __init__(self, mappings=None, server=reply, **settings):
        self.mappings = {"shop-v1": index("v1")} if mappings is None else mappings
        self.server, self.settings = server, Settings(**settings)
        self.kept, self.failures = Mappings(self.settings.mapping_ttl_s), Counter()
        self.reads, self.calls = [], []

    def __call__(self, body, index="shop"):
        steps = compose_steps(body, index, self.kept, self.settings, self.failures)
        answer = None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, ReadMapping):
                    self.reads.append(step.index)
                    answer = self.mappings
                else:
                    self.calls += step
                    answer = [self.server(ask) for ask in step]
        except StopIteration as end:
            return end.value


def failing(error):
    return lambda ask: error


def terms(**scores):
    return {
        "bool": {
            "should": [
                {"constant_score": {"filter": {"term": {"sid": term}}, "boost": score}}
                for term, score in scores.items()
            ],
            "minimum_should_match": 1,
        }
    }


GENERATED = terms(**{"v1/9/0/1": 0.5, "v1/9/0/2": 0.25})


# --- what the clause becomes


def test_the_clause_becomes_constant_scores_of_its_probabilities():
    assert Run()(generative()) == GENERATED


def test_scores_have_the_precision_of_the_engine():
    def server(ask):
        return Reply("v1", "", [np.array([[0, 0, 0]], np.int32)], [np.array([-1.25], np.float32)], [np.array([2])], {})

    (only,) = Run(server=server)(generative())["bool"]["should"]
    assert only["constant_score"]["boost"] == float(np.float32(math.exp(-1.25)))


def test_boost_and_name_are_those_of_the_whole_clause():
    assert Run()(generative(boost=2, _name="gen"))["bool"] == {**GENERATED["bool"], "boost": 2.0, "_name": "gen"}


def test_min_score_leaves_out_what_is_less_likely():
    assert Run()(generative(min_score=0.3)) == terms(**{"v1/9/0/1": 0.5})
    assert Run()(generative(min_score=0.9, _name="gen")) == {"match_none": {"_name": "gen"}}


def test_given_sids_are_not_asked_for():
    run = Run()
    body = given("v1/0/0/1", {"sid": "v1/0/0/2", "score": 0.5}, {"sid": "v1/0/0/3"})
    assert run(body) == terms(**{"v1/0/0/1": 1.0, "v1/0/0/2": 0.5, "v1/0/0/3": 1.0})
    assert run(given(codebook="v1")) == {"match_none": {}}
    assert not run.calls


RED = {"match": {"title": "red"}}


def ordered(weight, **scores):
    best = {"dis_max": {"queries": terms(**scores)["bool"]["should"]}}
    return {"bool": {"must": [best], "should": [{"function_score": {"query": RED, "weight": weight}}]}}


def test_order_within_adds_a_query_s_score_to_that_of_an_item_of_the_sid():
    """Of 4 items the likelier SID's are less likely each than the only one of the other."""
    found = Run()(generative(order_within={"query": RED, "weight": 3}, boost=2, _name="gen"))
    assert found["bool"].pop("_name") == "gen"
    second = 2 * (1 + math.log(0.25) - (math.log(0.5) - math.log(4)))
    assert found == ordered(6.0, **{"v1/9/0/1": 2.0, "v1/9/0/2": pytest.approx(second)})


def test_order_within_of_given_sids_and_min_score():
    sids = [{"sid": f"v1/0/0/{n}", "score": score, "items": n} for n, score in ((1, 0.5), (2, 0.5), (3, 0.1), (4, 0))]
    found = Run()(given(*sids, min_score=0.2, order_within={"query": RED}))
    assert found == ordered(1.0, **{"v1/0/0/1": pytest.approx(1 + math.log(2)), "v1/0/0/2": 1.0})
    everything = Run()(given(*sids, order_within={"query": RED}))
    scores = [one["constant_score"]["boost"] for one in everything["bool"]["must"][0]["dis_max"]["queries"]]
    assert scores[-1] == 1
    assert 100 < max(scores) < 110, "a score of 0 counts as the least float, 1.4e-45"
    assert Run()(given(*sids, min_score=0.9, order_within={"query": RED})) == {"match_none": {}}


def test_order_within_of_two_codebooks_has_one_scale():
    run = Run({"shop-v1": index("v1"), "shop-v2": index("v2")})
    found = run(generative(order_within={"query": RED}))
    scores = [one["constant_score"]["boost"] for one in found["bool"]["must"][0]["dis_max"]["queries"]]
    assert scores[:2] == scores[2:]
    assert min(scores) == 1


def test_order_within_needs_the_numbers_of_items():
    def older(call):
        return replace(reply(call), items=[np.array([], np.int64)])

    within = {"query": RED}
    for run, clause in (
        (Run(server=older), generative(order_within=within, on_failure="match_none")),
        (Run(), given({"sid": "v1/0/0/1", "items": 2}, "v1/0/0/2", order_within=within)),
    ):
        with pytest.raises(ClauseError, match="the number of items of each SID is needed"):
            run(clause)
    assert Run(server=older)(generative()) == GENERATED


PLACES = {
    "query": lambda q: q,
    "body": lambda q: {"query": q, "size": 3},
    "bool": lambda q: {"query": {"bool": {"must": q, "filter": [{"term": {"a": "b"}}], "should": [q, {"match": {}}]}}},
    "hybrid": lambda q: {"hybrid": {"queries": [{"match_all": {}}, q], "filter": q}},
    "function_score": lambda q: {"function_score": {"query": q, "functions": [{"filter": q, "weight": 2}]}},
    "knn filter": lambda q: {"knn": {"vector": {"vector": [1.0], "k": 5, "filter": q}}},
    "post_filter": lambda q: {"query": {"match_all": {}}, "post_filter": q},
    "rescore": lambda q: {"rescore": {"query": {"rescore_query": q}}},
    "aggregations": lambda q: {"aggs": {"generative": {"filter": q}, "b": {"filters": {"filters": {"generative": q}}}}},
    "sort": lambda q: {"sort": [{"price": {"nested": {"path": "offers", "filter": q}}}]},
    "deep": lambda q: {"nested": {"path": "a", "query": {"dis_max": {"queries": [{"constant_score": {"filter": q}}]}}}},
    "beside others": lambda q: {"bool": {"should": [q, {"match": {"title": {"query": "x"}}}]}},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_clause_is_replaced_wherever_it_stands(place):
    body = PLACES[place](generative())
    before = deepcopy(body)
    run = Run()
    assert run(body) == PLACES[place](GENERATED)
    assert body == before, "the caller's body changed"
    assert len(run.calls) == 1, "equal prompts are asked once"


@pytest.mark.parametrize(
    "body",
    [
        {"query": {"match": {"generative": {"query": "x"}}}},
        {"aggs": {"generative": {"terms": {"field": "brand"}}}},
        {"aggs": {"b": {"filters": {"filters": {"generative": {"match": {"title": "x"}}}}}}},
        {"sort": [{"generative": {"order": "desc"}}]},
        {"highlight": {"fields": {"generative": {}}}},
        {"query": {"match_all": {}}},
    ],
)
def test_what_only_bears_the_name_is_left_alone(body):
    run = Run()
    assert run(body) == body
    assert not run.reads, "nothing to look up"


# --- what is asked


def test_prompts_of_one_codebook_are_one_call():
    run = Run()
    words = [{"generative": {"sid": {"query_text": text, "user": {"gender": "f"}}}} for text in ("a", "bb", "a")]
    first, second, third = run({"hybrid": {"queries": words}})["hybrid"]["queries"]
    (call,) = run.calls
    assert [p.text for p in call.queries] == ["a", "bb"]
    assert first == third == terms(**{"v1/1/0/1": 0.5, "v1/1/0/2": 0.25})
    assert second == terms(**{"v1/2/0/1": 0.5, "v1/2/0/2": 0.25})


def test_a_call_says_what_the_clause_says_and_defaults_are_the_plugins():
    user = {"gender": "f", "recent_sids": "v1/0/0/0", "recent_items": ["B1"]}
    run = Run()
    run({"bool": {"should": [generative(k=7, beam_width=9, timeout="40ms", user=user, memory=False), generative()]}})
    chosen, default = (call.arguments for call in run.calls)
    assert chosen.pop("users") == [
        {"gender": "f", "age_band": "", "recent_sids": ("v1/0/0/0",), "recent_items": ("B1",)}
    ]
    assert chosen == {
        "texts": [TEXT], "codebook": "v1", "k": 7, "beam_width": 9, "memory": False, "timeout_s": 0.04
    }  # fmt: skip
    assert default == {
        "texts": [TEXT], "users": [None], "codebook": "v1", "k": 50, "beam_width": 0, "memory": True, "timeout_s": 1.0
    }  # fmt: skip


def test_two_indices_of_two_codebooks_are_asked_for_in_both():
    run = Run({"shop-v1": index("v1"), "shop-v2": index("v2")})
    found = run(generative())
    assert [call.codebook for call in run.calls] == ["v1", "v2"]
    expected = {f"{codebook}/9/0/{i}": 0.5 / i for codebook in ("v1", "v2") for i in (1, 2)}
    assert found == terms(**expected)


def test_one_bad_prompt_of_a_call_does_not_fail_the_others():
    def server(ask):
        bad = any(p.text == "bad" for p in ask.queries)
        return ServerError("text is refused", grpc.StatusCode.INVALID_ARGUMENT) if bad else reply(ask)

    run = Run(server=server)
    found = run({"bool": {"should": [generative(), generative(query_text="bad", on_failure={"match_all": {}})]}})
    assert found == {"bool": {"should": [GENERATED, {"match_all": {}}]}}
    assert run.failures == {"invalid_request": 1}


def test_the_mapping_is_kept_for_a_while():
    run = Run()
    run(generative())
    run(generative())
    assert run.reads == ["shop"]
    fresh = Run(mapping_ttl_s=0)
    fresh(generative())
    fresh(generative())
    assert fresh.reads == ["shop", "shop"]


def test_an_alias_that_moved_is_followed_when_the_mapping_is_read_again():
    run = Run(mapping_ttl_s=0)
    run(generative())
    run.mappings = {"shop-v2": index("v2")}
    run(generative())
    assert [call.codebook for call in run.calls] == ["v1", "v2"]


# --- the index


def announcing(codebook, following):
    about = index(codebook)
    about["mappings"]["_meta"]["genrecall"]["next"] = following
    return {f"shop-{codebook}": about}


def test_while_an_alias_is_about_to_move_both_codebooks_are_asked_for():
    run = Run(announcing("v1", "v2"))
    body = run({"query": generative()})
    assert sorted(ask.codebook for ask in run.calls) == ["v1", "v2"]
    found = {clause["constant_score"]["filter"]["term"]["sid"] for clause in body["query"]["bool"]["should"]}
    assert {term.partition("/")[0] for term in found} == {"v1", "v2"}


def test_an_announced_codebook_that_is_not_held_fails_nothing():
    held = Run(announcing("v1", "v2"), lambda ask: reply(ask) if ask.codebook == "v1" else GONE)
    assert held({"query": generative()}) == Run()({"query": generative()})
    other = Run(announcing("v1", "v2"), lambda ask: reply(ask) if ask.codebook == "v2" else GONE)
    with pytest.raises(NoSids):
        other({"query": generative()})


def test_without_an_index_the_clause_asserts_its_codebook():
    run = Run()
    with pytest.raises(ClauseError, match="codebook is missing"):
        run(generative(), index=None)
    assert run(generative(codebook="v1"), index=None) == GENERATED
    assert run(given("v1/0/0/1"), index=None) == terms(**{"v1/0/0/1": 1.0})
    assert not run.reads


def test_indices_of_other_clusters_are_not_looked_up():
    run = Run()
    assert run(generative(), index=["shop", "far:shop"]) == GENERATED
    assert run(generative(codebook="v1"), index="far:shop") == GENERATED
    assert run.reads == ["shop"]
    with pytest.raises(NoSids, match=r"\[far:shop\]"):
        run(generative(), index="far:shop")


def test_a_pattern_without_a_match_finds_nothing():
    run = Run({})
    assert run(generative()) == {"match_none": {}}
    assert not run.calls


@pytest.mark.parametrize(
    ("mappings", "clause", "message"),
    [
        ({"a": index("v1", sid=None)}, generative(), r"no field \[sid\] in index \[a\].*ignore_unmapped"),
        ({"a": index("v1", sid="text")}, generative(), r"\[sid\] of index \[a\] is of type \[text\].*keyword"),
        ({"a": index("v1", sid="text")}, generative(ignore_unmapped=True), "of type"),
        ({"a": index("v1")}, generative(codebook="v2"), r"of codebook \[v1\], the SIDs are of \[v2\]"),
        ({"a": index("v1")}, given("v2/0/0/0"), r"of codebook \[v1\], the SIDs are of \[v2\]"),
        ({"a": index("v1"), "b": index(None)}, generative(), r"index \[b\] names no codebook"),
        ({"a": index(None)}, given("v2/0/0/0"), r"index \[a\] names no codebook"),
    ],
)
def test_an_index_that_the_clause_does_not_fit_is_refused_before_anything_is_asked(mappings, clause, message):
    run = Run(mappings)
    with pytest.raises(ClauseError, match=message):
        run(clause)
    assert not run.calls


def test_ignore_unmapped_covers_an_index_without_the_field():
    run = Run({"a": index("v1"), "b": index(None, sid=None)})
    assert run(generative(ignore_unmapped=True)) == GENERATED


def test_a_field_may_be_an_alias_or_part_of_another():
    fields = {
        "sid": {"type": "keyword"},
        "other": {"type": "alias", "path": "sid"},
        "deep": {"properties": {"sid": {"type": "text", "fields": {"raw": {"type": "keyword"}}}}},
    }
    run = Run({"a": {"mappings": {"_meta": {"genrecall": {"codebook": "v1"}}, "properties": fields}}})
    for field in ("other", "deep.sid.raw"):
        found = run({"generative": {field: {"query_text": TEXT}}})
        assert found["bool"]["should"][0]["constant_score"]["filter"] == {"term": {field: "v1/9/0/1"}}
    with pytest.raises(ClauseError, match=r"type \[object\]"):
        run({"generative": {"deep": {"query_text": TEXT}}})


# --- when there are no SIDs


STATUSES = {
    "unavailable": grpc.StatusCode.UNAVAILABLE,
    "timeout": grpc.StatusCode.DEADLINE_EXCEEDED,
    "codebook_not_held": grpc.StatusCode.FAILED_PRECONDITION,
    "server_error": grpc.StatusCode.INTERNAL,
    "overload": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "invalid_request": grpc.StatusCode.INVALID_ARGUMENT,
}


@pytest.mark.parametrize("kind", STATUSES)
def test_on_failure_covers_whatever_befalls_the_call(kind):
    run = Run(server=failing(ServerError("as scripted", STATUSES[kind])))
    with pytest.raises(NoSids, match="as scripted") as caught:
        run(generative())
    assert caught.value.kind == kind
    assert isinstance(caught.value.__cause__, ServerError)
    assert run(generative(on_failure="match_none", _name="gen", boost=3)) == {"match_none": {}}
    assert run(generative(on_failure={"match": {"title": "x"}})) == {"match": {"title": "x"}}
    assert run.failures == {kind: 3}


@pytest.mark.parametrize(
    ("query", "becomes"),
    [
        ({"match": {"title": "x"}}, {"bool": {"must": [{"match": {"title": "x"}}], "boost": 3.0, "_name": "gen"}}),
        (
            {"match": {"title": {"query": "x", "_name": "own"}}},
            {"bool": {"must": [{"match": {"title": {"query": "x", "_name": "own"}}}], "boost": 3.0}},
        ),
        ({"match_all": {"boost": 2, "_name": "own"}}, {"match_all": {"boost": 2, "_name": "own"}}),
        (
            given("v1/0/0/1", boost=2),
            {"bool": {**terms(**{"v1/0/0/1": 1.0})["bool"], "boost": 2.0, "_name": "gen"}},
        ),
    ],
)
def test_a_fallback_takes_over_boost_and_name_unless_it_has_its_own(query, becomes):
    assert Run(server=failing(GONE))(generative(on_failure=query, boost=3, _name="gen")) == becomes


@pytest.mark.parametrize(("text", "why"), [(" ", "is empty"), ("a" * 1001, "is too long: 1001")], ids=["empty", "long"])
def test_on_failure_covers_a_text_that_nobody_can_answer(text, why):
    run = Run()
    assert run(generative(query_text=text, on_failure="match_none")) == {"match_none": {}}
    assert run.failures == {"invalid_request": 1}
    with pytest.raises(NoSids, match=f"query_text {why}"):
        run(generative(query_text=text))


def test_a_body_of_many_clauses_is_refused():
    clauses = [generative(query_text=f"shoes {number}") for number in range(17)]
    with pytest.raises(ClauseError, match=r"more than 16 clauses.*Settings.max_clauses"):
        Run()({"bool": {"should": clauses}})
    assert len(Run()({"bool": {"should": clauses[1:]}})["bool"]["should"]) == 16


def test_an_index_that_names_no_codebook_is_a_failure_that_on_failure_covers():
    run = Run({"a": index(None)})
    assert run(generative(on_failure="match_none")) == {"match_none": {}}
    with pytest.raises(NoSids, match="no codebook is named") as caught:
        run(generative())
    assert caught.value.kind == "no_codebook"


@pytest.mark.parametrize("scores", [[float("nan")], [1e6], [0.0, -1.0, -2.0]])
def test_a_reply_that_breaks_the_contract_is_a_failure(scores):
    codes = np.zeros((len(scores), 3), np.int32)
    run = Run(server=lambda ask: Reply("v1", "", [codes], [np.array(scores, np.float32)], [np.array([], np.int64)], {}))
    assert run(generative(k=2, on_failure="match_none")) == {"match_none": {}}
    assert run.failures == {"server_error": 1}


def test_one_codebook_that_is_not_held_fails_the_clause():
    lacking = ServerError("'v2' is not held", grpc.StatusCode.FAILED_PRECONDITION)
    run = Run({"a": index("v1"), "b": index("v2")}, server=lambda ask: lacking if ask.codebook == "v2" else reply(ask))
    assert run(generative(on_failure="match_none")) == {"match_none": {}}


def test_a_fallback_may_be_a_clause_of_its_own_and_is_asked_only_then():
    fallback = {"bool": {"must": [generative(query_text="a")]}}
    run = Run()
    assert run(generative(on_failure=fallback)) == GENERATED
    assert len(run.calls) == 1
    failed = Run(server=lambda ask: reply(ask) if ask.queries[0].text == "a" else GONE)
    assert failed(generative(on_failure=fallback)) == {"bool": {"must": [terms(**{"v1/1/0/1": 0.5, "v1/1/0/2": 0.25})]}}


# --- refusals


REFUSED = [
    ({}, "names no field"),
    ({"sid": {"query_text": "a"}, "other": {"query_text": "a"}}, r"takes one field"),
    ({"sid": {}}, "neither query_text nor sids"),
    ({"sid": {"k": 3}}, "neither query_text nor sids"),
    ({"sid": {"query_text": "a", "sids": ["v1/0/0/0"]}}, "both query_text and sids"),
    ({"sid": {"query_txt": "a"}}, r"unknown option \[query_txt\]"),
    *(
        ({"sid": {"query_text": "a", **options}}, message)
        for options, message in [
            ({"query_text": None}, "query_text"),
            ({"query_text": 7}, "query_text"),
            ({"k": 0}, r"k \[0\] is out of range"),
            ({"k": 1025}, r"k \[1025\] is out of range"),
            ({"k": 513}, r"k \[513\] is too large.*Settings.max_k"),
            ({"k": "many"}, r"k \[many\] is not an integer"),
            ({"k": True}, r"k \[True\]"),
            ({"beam_width": 49}, r"beam_width \[49\] is below k \[50\]"),
            ({"beam_width": -1}, r"beam_width \[-1\] is below"),
            ({"beam_width": 2**31}, "beam_width .* out of range"),
            ({"beam_width": 513}, r"beam_width \[513\] is too large.*Settings.max_beam_width"),
            ({"timeout": "0ms"}, r"timeout \[0ms\] is out of range"),
            ({"timeout": "61s"}, r"timeout \[61s\] is out of range"),
            ({"timeout": "1.5s"}, r"timeout \[1.5s\] is not a duration"),
            ({"timeout": 40}, r"timeout \[40\]"),
            ({"on_failure": "give_up"}, r"on_failure \[give_up\] is unknown"),
            ({"on_failure": {}}, "on_failure"),
            ({"on_failure": {"bool": {"must": generative(kk=1)}}}, r"unknown option \[kk\]"),
            ({"codebook": "v/1"}, r"codebook \[v/1\] is not a valid name"),
            ({"min_score": -0.1}, r"min_score \[-0.1\]"),
            ({"min_score": "NaN"}, r"min_score \[NaN\]"),
            ({"boost": -1}, "negative boost"),
            ({"_name": 3}, r"_name \[3\]"),
            ({"ignore_unmapped": "yes"}, r"ignore_unmapped \[yes\]"),
            ({"ignore_unmapped": 1}, r"ignore_unmapped \[1\]"),
            ({"order_within": "title"}, r"order_within \[title\] is not an object"),
            ({"order_within": {"weight": 1}}, "order_within has no query"),
            ({"order_within": {"query": "shoes"}}, r"order_within: query \[shoes\] is no query"),
            ({"order_within": {"query": {"match_all": {}}, "wait": 1}}, r"order_within: unknown option \['wait'\]"),
            ({"order_within": {"query": {"match_all": {}}, "weight": -1}}, r"order_within: weight \[-1.0\]"),
            ({"order_within": {"query": {"match_all": {}}, "weight": "1"}}, r"order_within: weight \[1\]"),
            ({"order_within": {"query": generative()}}, "order_within: its query holds another"),
            ({"order_within": {"query": {"bool": {"must": [generative()]}}}}, "order_within: its query holds another"),
            ({"user": "f"}, r"user \[f\]"),
            ({"user": {"sex": "f"}}, r"user.sex"),
            ({"user": {"gender": 1}}, r"user.gender"),
            ({"user": {"age_band": "x" * 65}}, r"user.age_band has a value of 65 characters"),
            ({"user": {"recent_items": ["B"] * 101}}, r"user.recent_items has 101 entries"),
            ({"user": {"recent_items": ["B" * 513]}}, r"user.recent_items has a value of 513"),
            ({"user": {"recent_sids": ["7/3"]}}, r"user.recent_sids: \[7/3\] is not a SID term"),
        ]
    ),
    *(
        ({"sid": options}, message)
        for options, message in [
            ({"sids": []}, "sids is empty"),
            ({"sids": ["v1/1/2"]}, r"sids: \[v1/1/2\] is not a SID term"),
            ({"sids": ["v1/1/2/2147483648"]}, "is not a SID term"),
            ({"sids": ["v1/1/2/3", {"sid": "v1/1/2/3"}]}, "is given twice"),
            ({"sids": [{"score": 1}]}, "an entry has no sid"),
            ({"sids": [{"sid": "v1/1/2/3", "p": 1}]}, r"unknown option \['p'\]"),
            ({"sids": [{"sid": "v1/1/2/3", "score": -1}]}, "out of range"),
            ({"sids": [{"sid": "v1/1/2/3", "items": 0}]}, r"items \[0\] of \[v1/1/2/3\] is out of range"),
            ({"sids": [{"sid": "v1/1/2/3", "items": 1.5}]}, r"items \[1.5\] is not an integer"),
            ({"sids": [{"sid": "v1/1/2/3", "score": "inf"}]}, "score"),
            ({"sids": ["v2/1/2/3"], "codebook": "v1"}, r"is not of codebook \[v1\]"),
            ({"sids": [f"v1/0/0/{i}" for i in range(1025)]}, "sids has 1025 entries"),
            ({"sids": ["v1/1/2/3"], "k": 3, "on_failure": "fail"}, r"\[k, on_failure\] belong to query_text"),
        ]
    ),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=str)
def test_a_mistake_is_refused_by_name_whatever_on_failure_says(fields, message):
    run = Run(server=failing(GONE))
    for body in (
        {"generative": fields},
        {"bool": {"should": [generative(on_failure="match_none"), {"generative": fields}]}},
    ):
        with pytest.raises(ClauseError, match=message):
            run(body)
    assert not run.calls
