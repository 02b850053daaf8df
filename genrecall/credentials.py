"""Credentials of a cluster, from a file or the environment, as the header that a request carries.

Never from a setting: the configuration is printed, and written into runs and bundles. No message here holds a value.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import yaml

from genrecall.errors import UserError

VARIABLES = {key: f"GENRECALL_OPENSEARCH_{key.upper()}" for key in ("user", "password", "token", "api_key")}
KINDS = "user and password, or a token, or an api_key"


def authorization(file: Path | None) -> str | None:
    """The value of the header `Authorization`; None where no credentials are given.

    Args:
        file: YAML or JSON with `user` and `password`, or `token` (sent as Bearer), or `api_key` (sent as ApiKey). None:
            the same from the environment, as GENRECALL_OPENSEARCH_USER, _PASSWORD, _TOKEN or _API_KEY, or as a file
            that holds the value alone, named by the variable with _FILE appended.

    Raises:
        UserError: a file that is missing, that other accounts may read or that is malformed; credentials of two kinds,
            or half of a pair; a value that no header can carry.
    """
    given, source = (_read(file), str(file)) if file else (_of_environment(), "the environment")
    match sorted(given):
        case []:
            return None
        case ["password", "user"]:
            if ":" in given["user"]:
                raise UserError(f"the user in {source} has a colon, which HTTP does not allow in a user name")
            return "Basic " + base64.b64encode(f"{given['user']}:{given['password']}".encode()).decode()
        case ["token"] | ["api_key"]:
            ((key, value),) = given.items()
            if not re.fullmatch(r"[!-~]+", value):
                raise UserError(
                    f"the {key} in {source} has spaces, line breaks or other characters that it cannot have"
                )
            return f"{'Bearer' if key == 'token' else 'ApiKey'} {value}"
        case found:
            raise UserError(f"{source} gives {' and '.join(found)}: give {KINDS}")


def _of_environment() -> dict[str, str]:
    given = {}
    for key, variable in VARIABLES.items():
        value, file = os.environ.get(variable), os.environ.get(f"{variable}_FILE")
        if value and file:
            raise UserError(f"{variable} and {variable}_FILE are both set: unset one")
        if file:
            try:
                value = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{variable}_FILE={file} cannot be read: {_reason(error)}") from None
            if not value:
                raise UserError(f"{variable}_FILE={file} is empty")
        if value:
            given[key] = value
    return given


def _read(file: Path) -> dict[str, str]:
    try:
        with file.open(encoding="utf-8") as opened:
            others = os.fstat(opened.fileno()).st_mode & 0o077
            tree = yaml.safe_load(opened)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"credentials_file {file} cannot be read: {_reason(error)}") from None
    except yaml.YAMLError:  # its message would quote the line
        raise UserError(f"credentials_file {file} is neither YAML nor JSON") from None
    if others:
        raise UserError(f"credentials_file {file} is open to other accounts: chmod 600 {file}")
    if not isinstance(tree, dict) or not tree or set(tree) - set(VARIABLES):
        raise UserError(f"credentials_file {file} must have {KINDS}, one a line as `key: value`, and nothing else")
    for key, value in tree.items():
        if not isinstance(value, str) or not value:
            raise UserError(f"{key} in credentials_file {file} is not a text: put it in quotes")
    return tree


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else "not UTF-8"
