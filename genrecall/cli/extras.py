"""Which extras of the package a command needs, for the one line that says what is missing."""

from collections.abc import Sequence

# Command -> extras; a command that is not named needs none. tests/packaging runs each with these and no more.
EXTRAS = {
    "data check": "train",  # logs
    "data judge": "train",
    "demo": "all",
    "evaluate": "eval",
    "export": "export",
    "index attach": "opensearch,serve",
    "index create": "opensearch,serve",  # the encoder's vectors
    "index load": "opensearch,serve",
    "index refresh": "opensearch,serve",
    "index rollback": "opensearch,serve",
    "index status": "opensearch",
    "index sync": "opensearch,serve",
    "remember": "train",
    "report": "train",
    "serve": "serve",
    "train": "train",
}


# What a setting asks for, whatever the command: `run.tensorboard`, data in a cluster.
FOR_SETTINGS = {"opensearchpy": "opensearch", "tensorboard": "tensorboard"}
OURS = ("genrecall", "trainer", "inference_server", "index_mappings")


def explain(error: ModuleNotFoundError, words: Sequence[str]) -> str | None:
    """The message for a module that is not there, or None where no extra would bring it: that is a fault of ours.

    words: the command line.
    """
    module = (error.name or "").partition(".")[0]
    if module == "simulation":
        return "this command runs in a checkout only: simulated data are not part of the installed package"
    command = next((name for name in (" ".join(words[:2]), *words[:1]) if name in EXTRAS), None)
    if command is None or module in OURS:
        return None
    extras = EXTRAS[command]
    if extras == "train":
        extras = FOR_SETTINGS.get(module, extras)
    what = "extras" if "," in extras else "extra"
    remedy = f"pip install 'genrecall[{extras}]'"
    return f"genrecall {command} needs the {what} {extras!r} ({module} is not installed): {remedy}"
