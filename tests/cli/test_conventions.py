"""One name a thing: options, environment variables, exit codes, output of every command alike."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from genrecall.cli.main import main
from genrecall.progress import Bars, console
from tests.cli.lines import ROOT, commands

COMMANDS = commands()
# Read a configuration: all but those that read a bundle, ask a server, or bring and make data.
CONFIGURED = {name for name in COMMANDS if not name.startswith("bundle ")} - {"export", "generate"}
CONFIGURED -= {"data import", "data fetch", "data synthesize", "data simulate"}
PRINTING = set(COMMANDS) - {"demo"}  # the demo shows what other commands print
MEANING = {
    "--config": ("config", None),
    "--bundle": ("bundle", None),
    "--bundles": ("bundles", None),
    "--endpoint": ("endpoint", "GENRECALL_ENDPOINT"),
    "--url": ("url", "GENRECALL_OPENSEARCH_URL"),
    "--ca-cert": ("ca_cert", None),
    "--cert": ("cert", None),
    "--key": ("key", None),
    "--json": ("as_json", None),
}


def options(name: str) -> dict[str, object]:
    return {option: parameter for parameter in COMMANDS[name].params for option in parameter.opts}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs a command in an empty folder of this process; returns exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["genrecall", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return (int(stopped.value.code or 0), *capsys.readouterr())

    yield command
    console.quiet = False


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_options_have_one_name_and_one_meaning(name: str):
    offered = options(name)
    assert ("--config" in offered) == ("-c" in offered) == (name in CONFIGURED)
    assert ("--json" in offered) == (name in PRINTING)
    assert offered["--quiet"] is offered["-q"]
    for option, (variable, environment) in MEANING.items():
        if option in offered:
            parameter = offered[option]
            assert (parameter.name, parameter.envvar) == (variable, environment), option  # type: ignore[attr-defined]
    arguments = [parameter.name for parameter in COMMANDS[name].params if parameter.param_type_name == "argument"]
    assert "config" not in arguments
    if name in CONFIGURED:
        assert arguments == (["index", "overrides"] if name == "index attach" else ["overrides"])
        own = name.startswith("index ") or name in ("evaluate", "report", "remember")
        assert str(offered["--config"].default) == ("None" if own else "demo")  # type: ignore[attr-defined]


def test_verbs_that_change_or_measure_a_shop_ask_for_its_configuration(run, tmp_path: Path):
    for words in (["index", "load"], ["index", "sync"], ["index", "refresh"], ["evaluate"], ["report"], ["remember"]):
        code, out, error = run(*words)
        assert (code, out) == (2, ""), words
        assert "name yours by -c FILE, or call it genrecall.yaml" in " ".join(error.split())
    (tmp_path / "genrecall.yaml").write_text("opensearch: {url: 'http://127.0.0.1:9'}")
    assert "127.0.0.1:9" in run("index", "status")[2]


def test_version_completion_and_help_are_there(run):
    assert run("--version")[:2] == (0, "genrecall 0.1.0\n")
    _, out, _ = run("--help")
    assert "--install-completion" in out
    _, out, _ = run("generate", "--help")
    assert "GENRECALL_ENDPOINT" in out


@pytest.mark.parametrize("words", [("trian",), ("train", "--confg", "x"), ("serve", "--bundle"), ("generate",)])
def test_usage_errors_end_with_code_2(run, words):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "Error" in err


def test_brackets_in_messages_are_text(run):
    assert run("bundle", "show", "[bold]v1[/]")[2].startswith("error: no bundle '[bold]v1[/]' in bundles")
    assert "logs.[a]" in run("data", "check", "logs.[a]=1")[2]
    assert "[red]dir" in run("bundle", "list", "--bundles", "[red]dir")[1]
    with console.capture() as captured:
        console.print("quantizer.candidates=[cq_sid]")
    assert captured.get() == "quantizer.candidates=[cq_sid]\n"


def test_a_fault_of_ours_ends_with_code_1_and_its_traceback(tmp_path: Path):
    code = (
        "import genrecall.bundle as b, sys; from genrecall.cli.main import main\n"
        "b.list_bundles = lambda root: 1 / 0; sys.argv = ['genrecall', 'bundle', 'list']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    ("words", "way"),
    [("train -c tiny", "the same command resumes"), ("index load", "the same command resumes"), ("bundle list", "")],
)
def test_an_interrupted_command_says_how_to_go_on(words: str, way: str):
    code = (
        "import genrecall.cli.options as o, genrecall.bundle as b, sys\n"
        "def stop(*_): raise KeyboardInterrupt\n"
        "o.read_config = b.list_bundles = stop\n"
        f"from genrecall.cli.main import main; sys.argv = ['genrecall', *{words.split()!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 130
    assert done.stderr.startswith(f"interrupted: {way}" if way else "interrupted\n")


def test_quiet_leaves_results_alone(run, tmp_path: Path):
    loud = run("data", "synthesize", "--items", 1000, "queries=5", "sessions=10", "--out", "loud", "--json")
    quiet = run("data", "synthesize", "--items", 1000, "queries=5", "sessions=10", "--out", "quiet", "--json", "-q")
    assert quiet[0] == loud[0] == 0
    assert quiet[2] == ""
    assert json.loads(quiet[1])["about"] == json.loads(loud[1])["about"]


def test_a_full_bar_shows_the_time_it_took_and_no_zero():
    with console.capture() as captured, Bars() as bars:
        advance = bars.counter("rows [all]", 2)
        advance(1)
        bars.tasks[0].start_time -= 61
        advance(1)
    assert "rows [all]" in captured.get()
    assert "2/2" in captured.get()
    assert "01:01" in captured.get()
