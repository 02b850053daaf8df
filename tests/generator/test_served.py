"""Generators that were trained, loaded as a server loads them."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from genrecall.decoding import Generator
from genrecall.decoding.config import GeneratorConfig, Vocabulary
from genrecall.decoding.request_tokenizer import PromptTemplate, pad
from genrecall.errors import UserError
from genrecall.sid import SidSpace
from tests.decoding.test_parity import hugging_face_search
from tests.generator.shop import catalogue

Trained = tuple[Path, dict[str, Any]]
QUERIES = ["red shoe", "blue acme classic lamp for the home", "", "🧦 حذاء", "mug " * 500]


@pytest.fixture(params=["trained_encoder", "trained_lm"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)[0]


def test_a_trained_lm_answers_as_hugging_face_does(trained_lm: Trained) -> None:
    folder, _ = trained_lm
    space = catalogue()[2]
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    config = GeneratorConfig.read(json.loads((folder / "config.json").read_text()), folder)
    template = PromptTemplate.load(folder, config.vocabulary, config.max_tokens, True)
    ids, mask = pad(template.ids(QUERIES, "query"), side="left")
    codes, scores = hugging_face_search(
        model, space, torch.from_numpy(ids), torch.from_numpy(mask), 20, first=config.offsets
    )
    generator = Generator.load(folder, space)
    generator.heads.normalizer, generator.evidence = "vocabulary", None  # the decoder alone, scored as they do
    ours = generator.generate(QUERIES, k=20)
    np.testing.assert_allclose(ours.scores, scores, atol=1e-4)
    assert (ours.codes == codes).all()


def test_a_trained_lm_reads_as_its_tokenizer_in_hugging_face(trained_lm: Trained) -> None:
    folder, _ = trained_lm
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = PromptTemplate.load(folder, Vocabulary(len(tokenizer), (4, 4, 3)), 32, lowercase=True)
    for text in QUERIES:
        expected = tokenizer(text.lower(), add_special_tokens=False)["input_ids"][:31]
        assert prompts.ids([text], "query") == [[*expected, len(tokenizer) + 1]]


def test_no_text_can_spell_a_control_token(trained_lm: Trained) -> None:
    prompts = PromptTemplate.load(trained_lm[0], Vocabulary(10**6, (4, 4, 3)), 32, lowercase=False)
    control = "<|endoftext|>"
    assert prompts.tokenizer.token_to_id(control) not in prompts.ids([f"{control} shoe"], "query")[0]


def test_a_text_gets_the_same_answer_alone_and_in_a_batch(folder: Path) -> None:
    generator = Generator.load(folder, catalogue()[2])
    many = generator.generate(QUERIES * 8, k=10)  # 40 texts: more than one round
    for row, text in enumerate(QUERIES):
        alone = generator.generate([text], k=10)
        np.testing.assert_allclose(alone.scores[0], many.scores[row], atol=1e-4)
        np.testing.assert_allclose(many.scores[row], many.scores[row + 35], atol=1e-4)


def test_asking_for_more_than_there_is_gives_every_sid_once_and_pads(folder: Path) -> None:
    space = catalogue()[2]
    answer = Generator.load(folder, space).generate(["red shoe"], k=60)
    assert answer.valid.sum() == len(space) == 48
    assert sorted(space.index_of(answer.codes[0, :48]).tolist()) == list(range(48))
    assert np.exp(answer.scores[answer.valid]).sum() == pytest.approx(1.0, abs=1e-4)
    assert (answer.scores[0, 48:] == -np.inf).all()
    assert not answer.codes[0, 48:].any()


def test_no_text_gives_an_empty_answer(folder: Path) -> None:
    assert Generator.load(folder, catalogue()[2]).generate([], k=4).codes.shape == (0, 4, 3)


def test_half_precision_ranks_alike(folder: Path) -> None:
    space = catalogue()[2]
    whole = Generator.load(folder, space).generate(["red shoe"], k=10)
    half = Generator.load(folder, space, dtype=torch.bfloat16).generate(["red shoe"], k=10)
    assert half.scores.dtype == np.float32
    np.testing.assert_allclose(half.scores, whole.scores, atol=0.3)


def test_k_and_beam_width_are_checked(folder: Path) -> None:
    generator = Generator.load(folder, catalogue()[2])
    with pytest.raises(ValueError, match="k is 0"):
        generator.generate(["a"], k=0)
    with pytest.raises(ValueError, match="beam_width is 3, but k is 5"):
        generator.generate(["a"], k=5, beam_width=3)


def test_a_wider_beam_finds_no_worse(folder: Path) -> None:
    generator = Generator.load(folder, catalogue()[2])
    narrow, wide = (generator.generate(QUERIES, k=5, beam_width=width) for width in (5, 48))
    assert (wide.scores.sum(1) >= narrow.scores.sum(1) - 1e-4).all()


def test_files_can_be_read_by_a_server_of_another_user(folder: Path) -> None:
    assert all(path.stat().st_mode & stat.S_IROTH for path in folder.rglob("*") if path.is_file())


def _without_block(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["genrecall"]
    (folder / "config.json").write_text(json.dumps(config))


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def _without_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors")


def _other_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_block, "no usable 'genrecall' block"),
        (_cut, "is damaged"),
        (_without_weight, "does not fit its config.json"),
        (_other_architecture, "only plain Qwen2 decoders can be served"),
        (lambda folder: (folder / "model.safetensors").unlink(), "is not a generator"),
    ],
)
def test_a_damaged_folder_is_refused(
    trained_encoder: Trained, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "generator"
    shutil.copytree(trained_encoder[0], folder)
    damage(folder)
    with pytest.raises(UserError, match=message):
        Generator.load(folder, catalogue()[2])


def test_another_codebook_is_refused(trained_encoder: Trained) -> None:
    _, codes, _ = catalogue()
    with pytest.raises(UserError, match="was trained for level sizes"):
        Generator.load(trained_encoder[0], SidSpace.of(codes, (4, 4, 9)))
    with pytest.raises(UserError, match="holds vectors or words of other SIDs"):
        Generator.load(trained_encoder[0], SidSpace.of(codes[1:], (4, 4, 3)))


def test_a_generator_of_an_earlier_version_is_served_as_it_was(trained_encoder: Trained, tmp_path: Path) -> None:
    """Its config.json knows no evidence, and the decoder answers alone."""
    folder = tmp_path / "generator"
    shutil.copytree(trained_encoder[0], folder)
    config = json.loads((folder / "config.json").read_text())
    del config["genrecall"]["evidence"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evidence.safetensors").unlink()
    earlier, alone = (Generator.load(of, catalogue()[2]) for of in (folder, trained_encoder[0]))
    alone.evidence = None
    one, other = (generator.generate(QUERIES, k=5) for generator in (earlier, alone))
    assert (one.codes == other.codes).all()
    np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "evidence.safetensors is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "evidence.safetensors is damaged"),
        (lambda path: path.write_bytes(b""), "evidence.safetensors is damaged"),
        (lambda path: save_file({"start": torch.zeros(2)}, path), "evidence.safetensors"),
    ],
)
def test_a_damaged_evidence_is_refused_by_name(
    trained_encoder: Trained, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "generator"
    shutil.copytree(trained_encoder[0], folder)
    damage(folder / "evidence.safetensors")
    with pytest.raises(UserError, match=message):
        Generator.load(folder, catalogue()[2])


def test_another_analyzer_is_refused(trained_encoder: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "generator"
    shutil.copytree(trained_encoder[0], folder)
    config = json.loads((folder / "config.json").read_text())
    config["genrecall"]["evidence"]["analyzer"] = "words-99"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="'words-99', this version has 'words-1'"):
        Generator.load(folder, catalogue()[2])
