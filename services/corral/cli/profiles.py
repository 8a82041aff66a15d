"""Profiles: servers by name, each with its key, in one file that only its owner reads.

The file is `corral/profiles.toml` in XDG_CONFIG_HOME, or in ~/.config. Knows nothing of the commands,
or of what a server does with a key.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from corral.cli.target import Target
from corral.errors import InvalidRequestError
from corral.settings import load_settings

OWNER_ONLY = 0o600
DEFAULT_NAME = "default"
_NAME = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
_SEE = "corral profiles lists them; corral login makes one."


@dataclass(frozen=True)
class Profiles:
    """Servers by name, and the name of the one that is used where none is asked for."""

    targets: Mapping[str, Target] = field(default_factory=dict)
    current: str = ""

    def with_target(self, name: str, target: Target) -> Profiles:
        """A profile added or replaced, and in use from now on. Raises InvalidRequestError."""
        if not _NAME.match(name):
            raise InvalidRequestError(
                f"{name!r:.80} can't be a profile's name.", "Use letters, digits, - and _."
            )
        return Profiles({**self.targets, name: target}, current=name)

    def without(self, name: str) -> Profiles:
        """All but one. Raises InvalidRequestError where it is not there."""
        self.named(name)
        left = {known: target for known, target in self.targets.items() if known != name}
        return Profiles(left, "" if self.current == name else self.current)

    def using(self, name: str) -> Profiles:
        """The same with another in use. Raises InvalidRequestError where it is not there."""
        self.named(name)
        return replace(self, current=name)

    def named(self, name: str) -> Target:
        """The profile of that name. Raises InvalidRequestError where it is not there."""
        if name not in self.targets:
            raise InvalidRequestError(f"There is no profile {name!r:.80}.", _SEE)
        return self.targets[name]


def profiles_file() -> Path:
    """Where profiles are kept."""
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "corral" / "profiles.toml"


def load_profiles(path: Path) -> Profiles:
    """The profiles of the file; none where it is not there.

    Raises InvalidRequestError where others may read it, or where it is not as `save_profiles` writes.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Profiles()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"{path} can't be read: {error}.") from error
    if stat.S_IMODE(mode) & ~OWNER_ONLY:
        raise InvalidRequestError(
            f"{path} holds keys, and others than its owner may use it (mode {mode & 0o777:o}).",
            f"chmod 600 {path}",
        )
    try:
        return _parse(text)
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InvalidRequestError(
            f"{path} is not valid: {error}.", "Correct it, or remove it and log in again."
        ) from error


def save_profiles(path: Path, profiles: Profiles) -> None:
    """Write the file whole or not at all, readable by its owner only. Raises InvalidRequestError."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.unlink(missing_ok=True)
        # Made with its mode: a file that is closed to others later was open for a moment.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - of a descriptor
            file.write(_format(profiles))
        temporary.replace(path)
    except OSError as error:
        raise InvalidRequestError(f"{path} can't be written: {error.strerror}.") from error


def choose_target(profile: str | None) -> Target:
    """The named profile, else CORRAL_SERVER, CORRAL_PROFILE, the profile in use, or this machine.

    An address from the environment is sent no profile's key.
    """
    settings = load_settings()
    if profile is None and "server" in settings.model_fields_set:
        return Target(settings.server)
    profiles = load_profiles(profiles_file())
    name = profile or settings.profile or profiles.current
    return profiles.named(name) if name else Target(settings.server)


def _parse(text: str) -> Profiles:
    tables = tomllib.loads(text)
    targets = {
        name: Target(str(table["server"]), str(table.get("key", "")))
        for name, table in tables.get("profiles", {}).items()
    }
    current = str(tables.get("current", ""))
    return Profiles(targets, current if current in targets else "")


def _format(profiles: Profiles) -> str:
    # A JSON string is a TOML string too, but for DEL, which ensure_ascii leaves as it is.
    def quoted(text: str) -> str:
        return json.dumps(text).replace("\x7f", "\\u007f")

    parts = [f"current = {quoted(profiles.current)}\n"]
    for name, target in profiles.targets.items():
        key = f"key = {quoted(target.key)}\n" if target.key else ""
        parts.append(f"[profiles.{name}]\nserver = {quoted(target.server)}\n{key}")
    return "\n".join(parts)
