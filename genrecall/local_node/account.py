"""The account that runs the node: OpenSearch refuses root, so root hands the process to a plain one."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrecall.errors import UserError


@dataclass(frozen=True)
class Account:
    """The account that runs the node. `switch`: it is not the caller's."""

    name: str
    uid: int
    gid: int
    switch: bool

    @property
    def run_as(self) -> dict[str, Any]:
        """Keyword arguments of subprocess that run a program as this account, with no other group of the caller's."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}

    def own(self, folder: Path) -> None:
        """Give `folder` and all in it to this account."""
        if self.switch:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def can(self, access: str, path: Path) -> bool:
        """Whether this account passes `test -r`, `-w` or `-x` (access) on `path`."""
        return subprocess.run(["test", f"-{access}", str(path)], check=False, **self.run_as).returncode == 0


def node_account(user: str) -> Account:
    """The caller, or the plain account `user` when the caller is root. UserError when it does not exist."""
    if os.geteuid() != 0:
        return Account(pwd.getpwuid(os.geteuid()).pw_name, os.geteuid(), os.getegid(), switch=False)
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise UserError(
            f"opensearch.node.user: there is no account {user!r}. OpenSearch refuses to run as root: name a plain "
            "account, or create one with `useradd --system genrecall`"
        ) from None
    if entry.pw_uid == 0:
        raise UserError(
            f"opensearch.node.user: {user!r} is root, and OpenSearch refuses to run as root: name a plain one"
        )
    return Account(user, entry.pw_uid, entry.pw_gid, switch=True)
