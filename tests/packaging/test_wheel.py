"""The wheel outside its checkout: what is in it, what each extra brings, and each verb from an empty folder."""

import json
import os
import signal
import subprocess
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command

from genrecall.cli.extras import EXTRAS
from genrecall.cli.main import build
from simulation import synthesize
from simulation.config import ShopSection
from tests.packaging.conftest import ROOT
from tests.packaging.environments import Environment

pytestmark = pytest.mark.slow

ROOMS = {"genrecall", "trainer", "inference_server", "index_mappings"}
Make = Callable[..., Environment]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shop"
    synthesize(ShopSection(items=1000, queries=30, sessions=200), folder, lambda stage, done, total: None)
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, in which the verbs are run one after another."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def trained(environment: Make, shop: Path, work: Path) -> Path:
    """A folder in which the packaged `tiny` was trained by the wheel."""
    fewer = ("quantizer.candidates=[hierarchical]", "generator.encoder.stage.steps=20", "logs.use=never")
    out, _ = environment("train").genrecall("train", "-c", "tiny", f"data.folder={shop}", *fewer, "--json", cwd=work)
    assert json.loads(out)["codebook"] == "v1"
    return work


def test_wheel_holds_what_is_needed_outside_a_checkout_and_no_generic_name(dist: Path):
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == ROOMS
    for config in (ROOT / "configs").rglob("*.yaml"):
        assert f"genrecall/{config.relative_to(ROOT)}" in names
    for pattern in ("index_mappings/templates/*", "genrecall/reports/templates/*", "inference_server/**/*.proto"):
        assert {str(path.relative_to(ROOT)) for path in ROOT.glob(pattern) if path.is_file()} <= set(names), pattern
    assert "genrecall/proto/genrecall/v1/generative_recall.proto" in names
    assert {f"{room}/py.typed" for room in ROOMS} <= set(names)
    built = {f"genrecall/{path.relative_to(ROOT)}" for path in ROOT.glob("plugin/target/releases/genrecall-*.zip")}
    assert built <= set(names)


def test_sdist_holds_tests_plugin_and_all_that_builds_them(dist: Path):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    needed = ["Makefile", "requirements.lock", "plugin/pom.xml", "plugin/build.sh", "README.md", "LICENSE"]
    needed += ["tests/packaging/test_wheel.py", "simulation/__init__.py", "configs/demo.yaml", "docs/data.md"]
    assert set(needed) <= names
    assert not {name for name in names if name.startswith(("plugin/target", ".venv", "runs", "bundles"))}


def test_metadata_has_absolute_links_only_and_names_every_extra(dist: Path):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = files.read(name).decode()
    links = [part.partition(")")[0] for part in metadata.split("](")[1:]]
    assert links
    assert all(link.startswith(("https://", "#")) for link in links), links
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {f"Provides-Extra: {extra}" for extra in project["optional-dependencies"]} <= set(metadata.splitlines())
    named = {extra for extras in EXTRAS.values() for extra in extras.split(",")}
    assert named <= set(project["optional-dependencies"])


def commands() -> list[list[str]]:
    """Every command, as its words."""
    verbs = get_command(build()).commands  # type: ignore[attr-defined]
    return [[verb, *sub] for verb, of in verbs.items() for sub in [[n] for n in getattr(of, "commands", {})] or [[]]]


def test_core_knows_every_verb_and_names_the_missing_extra_in_one_line(environment: Make, shop: Path, tmp_path: Path):
    """One process for all: each verb is run with what it needs least, in an environment without any extra."""
    code = (
        "import io, json, sys, contextlib\n"
        "from genrecall.cli.main import main\n"
        "def run(words):\n"
        "    sys.argv = ['genrecall', *words]\n"
        "    out, err, status = io.StringIO(), io.StringIO(), 0\n"
        "    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):\n"
        "        try: main()\n"
        "        except SystemExit as stopped: status = stopped.code or 0\n"
        "    return status, out.getvalue(), err.getvalue()\n"
        "print(json.dumps([run(words) for words in json.loads(sys.argv[1])]))\n"
    )
    core = environment()

    def run(*words: list[str]) -> list[tuple[int, str, str]]:
        return json.loads(core.run(core.python, "-c", code, json.dumps(words), cwd=tmp_path)[0])

    for words, (status, out, _) in zip(commands(), run(*([*words, "--help"] for words in commands())), strict=True):
        assert status == 0, words
        assert "Example:" in out, words
    needy = [words for words in commands() if " ".join(words) in EXTRAS]
    reading = ("data check", "demo")
    more = {verb: (f"data.folder={shop}",) for verb in reading}
    more |= {"data judge": ("--out", "judged"), "index attach": ("own",)}  # what they cannot do without
    results = run(*([*words, *more.get(" ".join(words), ())] for words in needy))
    for words, (status, out, err) in zip(needy, results, strict=True):
        verb = " ".join(words)
        assert status == 2, (verb, out, err)
        assert err.splitlines()[-1].startswith(f"error: genrecall {verb} needs the extra"), verb
        assert f"pip install 'genrecall[{EXTRAS[verb]}]'" in err
        assert "Traceback" not in err


def test_core_verbs_run_from_an_empty_folder(environment: Make, tmp_path: Path):
    core = environment()
    version, _ = core.genrecall("--version", cwd=tmp_path)
    assert version.startswith("genrecall ")
    assert "no bundles in bundles" in core.genrecall("bundle", "list", cwd=tmp_path)[0]
    assert json.loads(core.genrecall("bundle", "list", "--json", cwd=tmp_path)[0]) == []
    assert json.loads(core.genrecall("node", "status", "--json", cwd=tmp_path)[0]) == []
    nobody = "127.0.0.1:9"
    _, error = core.genrecall("generate", "pan", "--endpoint", nobody, "--timeout", 1, cwd=tmp_path, code=2)
    assert nobody in error
    _, error = core.genrecall("train", "-c", "nope", cwd=tmp_path, code=2)
    assert "demo, paper, tiny" in error
    code = "from genrecall.local_node.node import *; print(len(plugin_zips(NodeSection().plugins)))"
    zips, _ = core.run(core.python, "-c", code, cwd=tmp_path)
    built = list(ROOT.glob("plugin/target/releases/genrecall-*.zip"))
    assert int(zips) == bool(built), "the plugin's zip of the package is found from any folder"
    _, error = core.genrecall("data", "synthesize", "--out", "shop", cwd=tmp_path, code=2)
    assert "runs in a checkout only" in error


def test_train_report_and_check_run_with_the_extra_train(environment: Make, trained: Path, shop: Path):
    train = environment("train")
    facts = json.loads(train.genrecall("data", "check", f"data.folder={shop}", "--json", cwd=trained)[0])
    assert (facts["items"], facts["queries"]) == (1000, 30)
    written = json.loads(train.genrecall("report", "-c", "tiny", f"data.folder={shop}", "--json", cwd=trained)[0])
    assert all((trained / file).is_file() for file in written["files"])
    (listed,) = json.loads(train.genrecall("bundle", "list", "--json", cwd=trained)[0])
    assert (listed["codebook"], listed["pointer"]) == ("v1", "current")
    assert "every file is as published" in train.genrecall("bundle", "verify", cwd=trained)[0]


def test_serve_answers_with_the_extra_serve_and_generate_asks_it_with_none(environment: Make, trained: Path):
    serve = environment("serve")
    command = [serve.python.parent / "genrecall", "serve", "server.port=0", "server.metrics_port=null", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=trained, env=serve.variables({})) as server:
        assert server.stdout is not None
        try:
            endpoint = json.loads(server.stdout.readline())["endpoint"]
            out, _ = environment().genrecall("generate", "pan", "--json", cwd=trained, GENRECALL_ENDPOINT=endpoint)
        finally:
            os.kill(server.pid, signal.SIGTERM)
        assert server.wait(30) == 0
    reply = json.loads(out)
    assert reply["codebook"] == "v1"
    assert len(reply["sids"]) == 10


# Modules whose imports are the extra's to satisfy; those that need a GPU's runtime import it where they are used.
SERVED_BY = {
    "": ["genrecall.cli", "genrecall.client", "genrecall.config", "genrecall.data", "genrecall.local_node"],
    "train": ["trainer.quantizer", "trainer.generator", "trainer.alignment", "trainer.logs", "genrecall.reports"],
    "serve": ["inference_server", "genrecall.decoding"],
    "opensearch": ["index_mappings"],
    "export": ["trainer.export"],
}


@pytest.mark.parametrize("extra", SERVED_BY)
def test_every_module_imports_with_its_extra(extra: str, environment: Make, tmp_path: Path):
    code = (
        "import importlib, pkgutil, sys\n"
        "for name in sys.argv[1:]:\n"
        "    package = importlib.import_module(name)\n"
        "    for module in pkgutil.walk_packages(package.__path__, name + '.'):\n"
        "        if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
    )
    made = environment(extra) if extra else environment()
    made.run(made.python, "-c", code, *SERVED_BY[extra], cwd=tmp_path)


def test_index_and_evaluate_start_with_their_extras_and_ask_for_a_node(environment: Make, trained: Path, shop: Path):
    """Without a node here: they come as far as the cluster, which is past every import."""
    nowhere = ("opensearch.bulk.attempts=1", "--url", "http://127.0.0.1:9")
    settings = ("-c", "tiny", f"data.folder={shop}", *nowhere)
    for verb, extras in EXTRAS.items():
        if verb.startswith("index "):
            _, error = environment(*extras.split(",")).genrecall(*verb.split(), *settings, cwd=trained, code=2)
            assert "127.0.0.1:9" in error, verb
    _, error = environment("eval").genrecall("evaluate", *settings, cwd=trained, code=2)
    assert "genrecall node start" in error
