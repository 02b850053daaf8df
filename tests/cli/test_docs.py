"""README and docs against the program: links, commands, modules, make targets and configuration keys."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from genrecall.config import Config
from tests.cli.lines import ROOT, check_key, fences, genrecall_lines, parse, shell, spans

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SECTIONS = "|".join(Config.model_fields)
FILES = {"json", "md", "parquet", "safetensors", "log", "py", "yaml", "html", "png", "yml"}  # `server.log` is no key

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@each_page
def test_links_resolve(page: Path):
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*)$", page.read_text(), re.M)
    texts = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower().strip() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in texts}


@each_page
def test_commands_parse(page: Path):
    for words, inline in genrecall_lines(page.read_text()):
        try:
            parse(words)
        except Exception as error:
            if not (inline and type(error).__name__ == "MissingParameter"):  # prose may leave arguments out
                pytest.fail(f"genrecall {' '.join(words)}: {type(error).__name__} {error}", pytrace=False)


@pytest.mark.parametrize(
    "line",
    ["trian", "train demo", "train --confg x", "train run.nmae=x", "data synthesize --out x itms=3", "index lod"],
)
def test_a_line_that_does_not_parse_is_found(line: str):
    """What the test above relies on."""
    ((words, inline),) = genrecall_lines(f"```sh\ngenrecall {line}   # prose\n```\n")
    assert not inline
    with pytest.raises(Exception, match=r"."):
        parse(words)


@pytest.mark.parametrize("config", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.name)
def test_commands_in_the_comments_of_configurations_parse(config: Path):
    comments = "\n".join(re.findall(r"^# ?(.*)$", config.read_text(), re.M))
    for words in shell(comments.replace("#   ", "")):
        if words[:1] == ["genrecall"]:
            parse(words[1:])


@each_page
def test_modules_and_make_targets_exist(page: Path):
    text = page.read_text()
    for module in re.findall(r"python3? -m ([\w.]+)", text):
        assert importlib.util.find_spec(module), module
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for code in [*spans(text), *(line for _, block in fences(text) for line in block.splitlines())]:
        if named := re.match(r"make ([a-z][a-z-]*)", code):
            assert named[1] in targets, code


@each_page
def test_configuration_keys_exist(page: Path):
    text = page.read_text()
    for span in spans(text):
        if (named := re.fullmatch(rf"((?:{SECTIONS})(?:\.[a-z_0-9]+)+)(?:[=: ].*)?", span)) and (
            named[1].rpartition(".")[2] not in FILES
        ):
            check_key(named[1])
    for language, block in fences(text):
        if language == "yaml":
            keys(yaml.safe_load(block))


def keys(tree: object) -> None:
    """Check what looks like a configuration: its top keys are sections."""
    if isinstance(tree, dict) and tree.keys() <= Config.model_fields.keys():
        Config.model_validate(tree)


@pytest.mark.parametrize("room", ["genrecall", "trainer", "inference_server", "index_mappings", "simulation"])
def test_commands_and_settings_in_messages_exist(room: str):
    """A remedy such as `genrecall index load`, or `server.port=0`, is one."""
    for file in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                continue
            for key in re.findall(rf"(?<![\w./-])((?:{SECTIONS})(?:\.[a-z_0-9]+)+)=", node.value):
                check_key(key)
            for words, _ in genrecall_lines(re.sub(r"\{[^}]*\}", "", node.value)):
                try:
                    parse(words)
                except Exception as error:
                    if type(error).__name__ != "MissingParameter":
                        pytest.fail(f"{file}: genrecall {' '.join(words)}: {error}", pytrace=False)
