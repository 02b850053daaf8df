"""New and changed items over real gRPC: bundles as `train` publishes them, of both generators and both quantizers."""

import asyncio
import json
import shutil
from dataclasses import dataclass

import grpc
import numpy as np
import pyarrow as pa
import pytest

from genrecall import bundle
from genrecall.assignment import assign
from genrecall.bundle import Bundle
from genrecall.client import Client, Item, ServerError
from genrecall.decoding import Generator
from genrecall.embeddings import embed
from genrecall.item_text import item_text
from genrecall.records import ITEMS
from inference_server.batching.encode_workload import EncodeWorkload, EncodeWorkloads
from inference_server.engines.torch_engine import TorchEngine
from tests.generator.shop import catalogue
from tests.inference_server.bundles import train_shop
from tests.inference_server.serving import ThreeSids, served
from trainer.quantizer import Fitted

NEW = [
    {"item_id": "n0", "title": "acme red shoe classic", "category": ["home", "shoe"], "brand": "acme", "text": "long"},
    {"item_id": "n1", "title": "zenith lamp", "category": ["home", "lamp", "desk lamp"], "brand": "", "text": ""},
    {"item_id": "n2", "title": "blue blue blue", "category": ["garden"], "brand": "orbit", "text": ""},
    {"item_id": "n3", "title": "حذاء 🧦", "category": [], "brand": "", "text": ""},
    {"item_id": "n3", "title": "green mug " * 50, "category": ["home"], "brand": "acme", "text": ""},
]
ITEM_ROWS = [*catalogue()[0].to_pylist(), *NEW]


@dataclass
class Made:
    """A bundle, and what the trainer assigns to ITEM_ROWS; the checkpoint that it was trained with is gone."""

    bundle: Bundle
    codes: np.ndarray
    query: np.ndarray  # its vector of "red shoe"


@pytest.fixture(scope="module", params=["cq_sid, encoder, of E5", "cq_sid, encoder", "hierarchical, lm"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("items")
    quantizer, generator, *of_e5 = request.param.split(", ")
    prefixes = {"query_prefix": "home . ", "item_prefix": "classic "} if of_e5 else {}
    config, published = train_shop(folder, quantizer, generator, **prefixes)

    items = pa.Table.from_pylist(ITEM_ROWS, ITEMS)
    vectors = embed(item_text(items), "item", config.encoder, config.run.cache_dir, progress=False)
    arrays = Fitted.load(published.path / "quantizer.safetensors").arrays
    query = embed(["red shoe"], "query", config.encoder, config.run.cache_dir, progress=False)
    shutil.rmtree(config.encoder.checkpoint)
    return Made(published, assign(arrays, vectors, items["category"].to_pylist()), query)


def anonymous(rows):
    """Without ids, so that their texts alone decide."""
    return [{**row, "item_id": ""} for row in rows]


def ask(made_of: Bundle, questions, **settings):
    """The result of `questions(client)`, on a server that has loaded the bundle."""

    async def main():
        async with served(TorchEngine(made_of, "cpu"), **settings) as (_, running, __):
            with Client(f"127.0.0.1:{running.port}") as client:
                return await asyncio.to_thread(questions, client)

    return asyncio.run(main())


def test_items_get_the_sids_that_the_trainer_assigns_and_each_exists(made: Made) -> None:
    codes = ask(made.bundle, lambda client: client.encode(anonymous(ITEM_ROWS), codebook="v1"))
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(codes, made.codes)
    assert (made.bundle.space.index_of(codes) >= 0).all()


def test_a_query_is_encoded_as_in_training(made: Made) -> None:
    if made.bundle.manifest["kind"] == "lm":
        pytest.skip("a generator of this kind has no sentence encoder for queries")
    generator = Generator.load(made.bundle.generator_dir, made.bundle.space)
    text = generator.prefix(generator.request_tokenizer(["red shoe"])).text
    assert text is not None
    np.testing.assert_allclose(text.numpy(), made.query, atol=2e-3)  # kept in float16


def test_an_item_of_the_catalogue_keeps_its_sid_and_a_stranger_has_it_up_to_the_split_for_size(made: Made) -> None:
    known = bundle.codes_of(made.bundle.items())
    rows = ITEM_ROWS[: len(known)]
    kept = ask(made.bundle, lambda client: client.encode(rows, codebook="v1"))
    codes = ask(made.bundle, lambda client: client.encode(anonymous(rows), codebook="v1"))
    np.testing.assert_array_equal(kept, known)
    np.testing.assert_array_equal(codes[:, :2], known[:, :2])
    split = made.bundle.manifest["metrics"]["candidates"].popitem()[1]["codes"]["sids"]["split_share"]
    assert ((codes == known).all(axis=1).mean() < 1) == (split > 0)


def test_a_known_item_whose_text_is_another_has_the_sid_of_its_text(made: Made) -> None:
    known = bundle.codes_of(made.bundle.items())
    last = len(known) - 1
    differs = int(np.flatnonzero((known[:, :2] != known[last, :2]).any(axis=1))[0])
    renamed = {**ITEM_ROWS[last], "item_id": ITEM_ROWS[differs]["item_id"]}
    codes = ask(made.bundle, lambda client: client.encode([renamed], codebook="v1"))
    np.testing.assert_array_equal(codes[0], made.codes[last])


def test_a_large_call_is_cut_and_an_item_has_one_sid_whatever_its_company(made: Made) -> None:
    def questions(client: Client):
        rows = anonymous(ITEM_ROWS)
        alone = [client.encode([row], codebook="v1")[0] for row in rows[-7:]]
        return client.encode(rows * 3, codebook="v1"), np.stack(alone)

    together, alone = ask(made.bundle, questions, max_items=20, max_batch=7)
    np.testing.assert_array_equal(together, np.tile(made.codes, (3, 1)))
    np.testing.assert_array_equal(alone, made.codes[-7:])


def test_fields_are_read_as_a_catalogue_is(made: Made) -> None:
    untidy = Item("7", " acme  red\nshoe classic ", ["home ", "", " shoe"], "\tacme", "read by nobody")
    tidy = Item("7", "acme red shoe classic", ["home", "shoe"], "acme")
    codes = ask(made.bundle, lambda client: client.encode([untidy, tidy], codebook="v1"))
    np.testing.assert_array_equal(codes[0], codes[1])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            Item("", " ", ["home"], "acme", "text"),
            "items[3].title is empty: a SID is made of title, brand and category",
        ),
        (Item("", "x" * 101), "items[3].title has 101 characters, at most 100 are allowed (server.max_item_chars)"),
        (Item("", "x", text="x" * 101), "items[3].text has 101 characters"),
        (Item("", "x", ["y" * 60, "z" * 60]), "items[3].category has 122 characters"),
        (Item("", "x", [""] * 101), "items[3].category has 101 characters"),
    ],
)
def test_an_item_beyond_a_limit_is_refused_by_name(made: Made, bad: Item, message: str) -> None:
    def questions(client: Client):
        with pytest.raises(ServerError) as caught:
            client.encode([*NEW[:3], bad], codebook="v1")
        return caught.value

    error = ask(made.bundle, questions, max_item_chars=100)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert message in str(error)


def test_a_bundle_without_its_sentence_encoder_says_so_and_still_answers_queries(made: Made, tmp_path) -> None:
    if made.bundle.manifest["kind"] == "encoder":
        pytest.skip("a generator of this kind cannot be without")
    old = tmp_path / "v1"
    shutil.copytree(made.bundle.path, old)
    shutil.rmtree(old / "encoder")
    manifest = json.loads((old / "manifest.json").read_text())
    manifest["files"] = {name: entry for name, entry in manifest["files"].items() if not name.startswith("encoder/")}
    (old / "manifest.json").write_text(json.dumps(manifest))

    def questions(client: Client):
        with pytest.raises(ServerError) as caught:
            client.encode(NEW[:1], codebook="v1")
        with pytest.raises(ServerError, match="codebook 'v9' is not loaded"):
            client.encode(NEW[:1], codebook="v9")
        return caught.value, client.generate(["red shoe"], k=3)

    error, reply = ask(bundle.open(old), questions)
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "publish it again under a new name" in str(error)
    assert len(reply.codes[0]) == 3


def test_an_encoder_is_loaded_once_and_a_failure_is_tried_again() -> None:
    loads = []

    def load(engine: object) -> EncodeWorkload:
        loads.append(engine)
        if len(loads) == 1:
            raise OSError("disk")
        return EncodeWorkload.__new__(EncodeWorkload)

    async def main() -> None:
        engine, workloads = ThreeSids(), EncodeWorkloads(load)
        failed = await asyncio.gather(*(workloads.get(engine) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in failed] == [OSError] * 3
        first, second = await asyncio.gather(workloads.get(engine), workloads.get(engine))
        assert first is second
        assert len(loads) == 2

    asyncio.run(main())
