"""An inference server as a process of its own, for as long as an evaluation or a sample search needs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from genrecall.config import Config
from genrecall.errors import UserError


@contextmanager
def inference_server(settings: Config, codebooks: Sequence[str], log: Path) -> Iterator[str]:
    """Run `genrecall serve` on a free loopback port, holding `codebooks`; yields its `host:port`.

    Raises UserError with the end of its log when it does not come up.
    """
    overrides = [
        f"server.{key}={json.dumps(value, default=str)}" for key, value in settings.server.model_dump().items()
    ]
    overrides += [f"run.bundles_dir={settings.run.bundles_dir}", "server.port=0", "server.metrics_port=null"]
    overrides += ["server.shutdown_delay_s=0"]  # no load balancer in front
    command = [sys.executable, "-m", "genrecall", "serve", *overrides, "--json", "--verbose"]
    command += [part for name in codebooks for part in ("--bundle", name)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        if not ready:
            tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-5:])
            raise UserError(f"the inference server did not start; the end of {log}:\n{tail}")
        yield json.loads(ready)["endpoint"]
    finally:
        process.terminate()
        try:
            process.wait(settings.server.shutdown_grace_s + 5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
