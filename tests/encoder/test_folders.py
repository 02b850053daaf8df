"""Folders of sentence encoders as people have them: the vectors of sentence-transformers, or a refusal."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling, Transformer
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
    MPNetTokenizer,
    T5Config,
    T5Model,
)

from genrecall import checkpoints
from genrecall.config import Config
from genrecall.config.encoder import EncoderSection
from genrecall.decoding.request_tokenizer import encoder_tokenizer
from genrecall.decoding.text_encoder import TextEncoder
from genrecall.embeddings import embed
from genrecall.encoder_layout import EncoderLayout
from genrecall.errors import UserError
from genrecall.records import Dataset, Split
from tests.generator.shop import catalogue, logs
from trainer import fingerprint

WORDS = ["red", "Red", "blue", "shoe", "Shoe", "lamp", "query", "passage", ":", ",", "run", "##ning", "für", "fur"]
TEXTS = ["red Shoe", "Red running shoe, blue lamp", "", "für : lamp", "unknown words", "red blue " * 40]
Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cased BERT of random weights without anything of sentence-transformers."""
    folder = tmp_path_factory.mktemp("plain")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(
        BertConfig(vocab_size=len(words), **sizes, max_position_embeddings=64, initializer_range=0.5)
    ).save_pretrained(folder)
    return folder


def library(plain: Path, folder: Path, *modules: nn.Module, cls: bool = False, **options: object) -> Path:
    """Saved by sentence-transformers itself."""
    torch.manual_seed(1)
    pooling = Pooling(16, pooling_mode="cls" if cls else "mean")
    transformer = Transformer(str(plain), **options.pop("transformer", {}))  # type: ignore[arg-type]
    SentenceTransformer(modules=[transformer, pooling, *modules], device="cpu", **options).save(str(folder))
    return folder


def edit(path: str, **changes: object) -> Change:
    def change(folder: Path) -> None:
        about = json.loads((folder / path).read_text()) if (folder / path).exists() else {}
        (folder / path).write_text(json.dumps(about | changes))

    return change


def expected(folder: Path, prefix: str) -> torch.Tensor:
    reference = SentenceTransformer(str(folder), device="cpu")
    vectors = torch.tensor(reference.encode([prefix + text for text in TEXTS], prompt=""))
    return nn.functional.normalize(vectors, dim=-1)


def noisy(module: nn.Module) -> nn.Module:
    """What starts as an identity does something."""
    for weight in module.parameters():
        nn.init.normal_(weight)
    return module


FOLDERS: dict[str, Callable[[Path, Path], Path]] = {
    "plain": lambda plain, folder: plain,
    "mean": library,
    "first token": lambda plain, folder: library(plain, folder, cls=True),
    "dense": lambda plain, folder: library(plain, folder, Dense(16, 8)),
    "dense without bias or activation": lambda plain, folder: library(
        plain, folder, Dense(16, 24, bias=False, activation_function=nn.Identity())
    ),
    "two dense": lambda plain, folder: library(
        plain, folder, Dense(16, 24), Dense(24, 8, activation_function=nn.GELU())
    ),
    "layer norm": lambda plain, folder: library(plain, folder, noisy(LayerNorm(16))),
    "all": lambda plain, folder: library(plain, folder, Normalize(), Dense(16, 8), noisy(LayerNorm(8)), Normalize()),
    "lower case": lambda plain, folder: library(plain, folder, transformer={"do_lower_case": True}),
    "short": lambda plain, folder: library(plain, folder, transformer={"max_seq_length": 12}),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_gives_the_vectors_of_sentence_transformers(name: str, plain: Path, tmp_path: Path):
    folder = FOLDERS[name](plain, tmp_path / "saved")
    limit = 12 if name == "short" else 64
    encoder = TextEncoder.load(folder, limit)
    vectors = encoder.encode(TEXTS)
    torch.testing.assert_close(vectors, expected(folder, ""), atol=1e-5, rtol=0)
    assert EncoderLayout.read(folder).dim == vectors.shape[1] == encoder.dim

    encoder.save(tmp_path / "kept")  # as a bundle keeps it
    again = TextEncoder.load(tmp_path / "kept", limit)
    torch.testing.assert_close(again.encode(TEXTS), vectors, atol=1e-6, rtol=0)
    torch.testing.assert_close(expected(tmp_path / "kept", ""), vectors, atol=1e-5, rtol=0)
    ids = [one.ids for one in encoder_tokenizer(tmp_path / "kept", limit).encode_batch(TEXTS)]  # as a server reads it
    torch.testing.assert_close(again.encode_tokens(ids), vectors, atol=1e-6, rtol=0)


def test_the_modules_are_found_by_their_list_wherever_they_are(plain: Path, tmp_path: Path):
    library(plain, tmp_path, Dense(16, 8), cls=True)
    moved = {"": "0_Transformer", "1_Pooling": "first", "2_Dense": "projection"}
    (tmp_path / "0_Transformer").mkdir()
    for file in [path for path in tmp_path.iterdir() if path.is_file() and "sentence_transformers" not in path.name]:
        if file.name != "modules.json":
            file.rename(tmp_path / "0_Transformer" / file.name)
    for place in ("1_Pooling", "2_Dense"):
        (tmp_path / place).rename(tmp_path / moved[place])
    modules = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").write_text(json.dumps([m | {"path": moved[m["path"]]} for m in modules]))
    torch.testing.assert_close(TextEncoder.load(tmp_path).encode(TEXTS), expected(tmp_path, ""), atol=1e-5, rtol=0)


def test_another_architecture_with_its_own_names_of_sizes(plain: Path, tmp_path: Path):
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    torch.manual_seed(2)
    size = len(json.loads((plain / "tokenizer.json").read_text())["model"]["vocab"])
    config = DistilBertConfig(vocab_size=size, dim=16, n_layers=1, n_heads=2, hidden_dim=16, max_position_embeddings=64)
    DistilBertModel(config).save_pretrained(tmp_path)
    torch.testing.assert_close(TextEncoder.load(tmp_path).encode(TEXTS), expected(tmp_path, ""), atol=1e-5, rtol=0)
    assert EncoderLayout.read(tmp_path).dim == 16


def test_positions_that_begin_behind_the_padding_token_count_as_many_fewer(tmp_path: Path):
    words = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", *WORDS, "<mask>"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    MPNetTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=False).save_pretrained(tmp_path)
    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    MPNetModel(MPNetConfig(vocab_size=len(words), **sizes, max_position_embeddings=34)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"max_tokens is 33, but .* reads 32 at most: set it to 32"):
        TextEncoder.load(tmp_path, 33)
    reference = SentenceTransformer(str(tmp_path), device="cpu")
    reference.max_seq_length = 32
    vectors = torch.tensor(reference.encode(TEXTS, normalize_embeddings=True))
    torch.testing.assert_close(TextEncoder.load(tmp_path, 32).encode(TEXTS), vectors, atol=1e-5, rtol=0)


# --- prefixes


@pytest.mark.parametrize(
    ("prompts", "query", "item"),
    [
        ({}, "", ""),
        ({"prompts": {"query": "query : ", "document": "passage : "}}, "query : ", "passage : "),
        ({"prompts": {"query": "query : ", "passage": "passage : "}}, "query : ", "passage : "),
        ({"prompts": {"query": "query : ", "document": ""}}, "query : ", ""),
        ({"prompts": {"any": "red "}, "default_prompt_name": "any"}, "red ", "red "),
        ({"prompts": {"query": "query : ", "any": "red "}, "default_prompt_name": "any"}, "query : ", "red "),
    ],
)
def test_prompts_of_the_folder_are_written_before_queries_and_items(
    prompts: dict, query: str, item: str, plain: Path, tmp_path: Path
):
    folder = library(plain, tmp_path / "encoder")
    edit("config_sentence_transformers.json", **({"prompts": {}, "default_prompt_name": None} | prompts))(folder)
    section = EncoderSection(checkpoint=str(folder))
    for kind, prefix in (("query", query), ("item", item)):
        vectors = torch.from_numpy(embed(TEXTS, kind, section, tmp_path / "cache", progress=False))
        torch.testing.assert_close(vectors, expected(folder, prefix), atol=1e-5, rtol=0)
    if "default_prompt_name" in prompts and "query" not in prompts["prompts"]:
        always = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
        torch.testing.assert_close(vectors, torch.tensor(always), atol=1e-5, rtol=0)


def test_prefixes_of_the_settings_precede_those_of_the_folder_and_are_kept(plain: Path, tmp_path: Path):
    folder = library(plain, tmp_path / "encoder", prompts={"query": "query : ", "document": "passage : "})
    section = EncoderSection(checkpoint=str(folder), query_prefix="", item_prefix="blue ")
    for kind, prefix in (("query", ""), ("item", "blue ")):
        vectors = torch.from_numpy(embed(TEXTS, kind, section, tmp_path / "cache", progress=False))
        torch.testing.assert_close(vectors, expected(folder, prefix), atol=1e-5, rtol=0)
    TextEncoder.load(folder, query_prefix="", item_prefix="blue ").save(tmp_path / "kept")
    assert EncoderLayout.read(tmp_path / "kept").prefixes == ("", "blue ")


# --- refusals


def rename_weights(prefix: str) -> Change:
    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        save_file({prefix + name: w for name, w in weights.items()}, folder / "model.safetensors", {"format": "pt"})

    return change


def edit_weights(file: str, change_weights: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def change(folder: Path) -> None:
        weights = load_file(folder / file)
        change_weights(weights)
        save_file(weights, folder / file, {"format": "pt"})

    return change


def remove(*names: str) -> Change:
    return lambda folder: [(folder / name).unlink() for name in names if (folder / name).exists()] and None


def write(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text) and None


def modules(*kinds: str) -> Change:
    listed = [{"idx": n, "path": "", "type": f"sentence_transformers.models.{kind}"} for n, kind in enumerate(kinds)]
    return write("modules.json", json.dumps(listed))


def t5(folder: Path) -> None:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    T5Model(T5Config(vocab_size=19, **sizes)).save_pretrained(folder)


def smaller(folder: Path) -> None:
    config = BertConfig(vocab_size=12, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config).save_pretrained(folder)


LAYER = "encoder.layer.1.output.dense.weight"
REFUSED: dict[str, tuple[Change, str]] = {
    "module.": (
        rename_weights("module."),
        r"lack \d+ that the model has, .*'module\..*inside a wrapper: save the model",
    ),
    "compiled": (
        rename_weights("_orig_mod."),
        r"lack \d+ .*'_orig_mod\..*save the model itself, without '_orig_mod\.'",
    ),
    "missing": (edit_weights("model.safetensors", lambda w: w.pop(LAYER)), f"lack 1 .*'{LAYER}': download"),
    "not a number": (
        edit_weights("model.safetensors", lambda w: w[LAYER].view(-1)[3:4].fill_(float("nan"))),
        f"{LAYER}' of .* no numbers",
    ),
    "head not a number": (
        edit_weights("2_Dense/model.safetensors", lambda w: w["linear.bias"].fill_(float("inf"))),
        r"head.0.linear.bias' of .* no numbers",
    ),
    "head of another size": (edit("2_Dense/config.json", out_features=9), r"2_Dense/model\.safetensors does not fit"),
    "head without weights": (remove("2_Dense/model.safetensors"), r"2_Dense/model\.safetensors cannot be read .*save"),
    "head with a residual": (edit("2_Dense/config.json", use_residual=True), "asks for more than a matrix"),
    "foreign activation": (edit("2_Dense/config.json", activation_function="os.system"), "asks for more than a matrix"),
    "truncated weights": (write("model.safetensors", "version https://git-lfs"), "cannot be loaded as an encoder"),
    "no tokenizer": (
        remove("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"),
        r"has 5 tokens, .* and the model 19: .*tokenizer\.json",
    ),
    "vocabulary of another model": (smaller, r"has 19 tokens, up to number 18, and the model 12: they do not belong"),
    "t5": (t5, r"t5 has a decoder too; choose an encoder alone"),
    "pooling is no JSON": (write("1_Pooling/config.json", "{mean}"), r"1_Pooling/config\.json is not JSON"),
    "pooling is a list": (write("1_Pooling/config.json", "[]"), r"1_Pooling/config\.json is not a JSON object"),
    "pooling is gone": (remove("1_Pooling/config.json"), r"1_Pooling/config\.json cannot be read: No such file"),
    "max": (write("1_Pooling/config.json", '{"pooling_mode": "max"}'), r"asks for pooling \['max'\]"),
    "mean and cls": (write("1_Pooling/config.json", '{"pooling_mode": ["mean", "cls"]}'), "asks for pooling"),
    "without prompt": (edit("1_Pooling/config.json", include_prompt=False), "include_prompt"),
    "no pooling": (modules("Transformer"), r"modules\.json lists Transformer: supported are"),
    "static": (modules("StaticEmbedding"), r"modules\.json lists StaticEmbedding: supported are"),
    "lstm": (modules("Transformer", "LSTM", "Pooling"), r"lists Transformer, LSTM, Pooling: supported are"),
    "no list": (write("modules.json", '{"a": 1}'), r"modules\.json is not a list of modules"),
    "empty list": (write("modules.json", "[]"), r"modules\.json lists : supported are"),
    "default prompt": (
        write("config_sentence_transformers.json", '{"prompts": {}, "default_prompt_name": "query"}'),
        "default_prompt_name 'query', which is not among",
    ),
    "prompts are numbers": (
        write("config_sentence_transformers.json", '{"prompts": {"query": 3}}'),
        "prompts that are no texts",
    ),
    "limit": (edit("sentence_bert_config.json", max_seq_length=16), r"max_tokens is 64, but .* reads 16 at most: set"),
    "positions": (edit("sentence_bert_config.json", max_seq_length=900), r"max_tokens is 128, .* reads 64 at most"),
    "another task": (edit("sentence_bert_config.json", transformer_task="fill-mask"), "saved for the task 'fill-mask'"),
    "config is no JSON": (write("config.json", "{"), r"config\.json is not JSON"),
    "config of nothing": (write("config.json", "{}"), "cannot be loaded as an encoder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_give_other_vectors_is_refused_with_the_file_and_the_remedy(name: str, plain: Path, tmp_path: Path):
    folder = library(plain, tmp_path / "encoder", Dense(16, 8))
    change, message = REFUSED[name]
    change(folder)
    with pytest.raises(UserError, match=message) as refusal:
        TextEncoder.load(folder, 128 if name == "positions" else 64)
    assert str(folder) in str(refusal.value)


# --- keys


def test_a_checkpoint_that_is_replaced_at_its_path_has_other_keys_and_vectors(plain: Path, tmp_path: Path):
    folder = tmp_path / "encoder"
    shutil.copytree(plain, folder)
    config = Config(encoder=EncoderSection(checkpoint=str(folder)))
    queries, learned, dev = logs()
    dataset, split = Dataset("shop", catalogue()[0], queries, learned), Split("given", learned, dev, dev)

    def state() -> tuple[str, str, torch.Tensor]:
        vectors = embed(TEXTS, "item", config.encoder, tmp_path / "cache", progress=False)
        return checkpoints.content_of(folder), fingerprint.of(config, dataset, split), torch.from_numpy(vectors)

    before = state()
    assert state()[:2] == before[:2]
    edit_weights("model.safetensors", lambda w: w[LAYER].mul_(2))(folder)  # as large as before
    after = state()
    assert after[0] != before[0]
    assert after[1] != before[1]
    torch.testing.assert_close(after[2], expected(folder, ""), atol=1e-5, rtol=0)
    shutil.move(folder, tmp_path / "elsewhere")
    moved = config.model_copy(update={"encoder": EncoderSection(checkpoint=str(tmp_path / "elsewhere"))})
    assert fingerprint.of(moved, dataset, split) == after[1]
