"""Carry out the steps of a Dockerfile in a folder and an environment of its own, where no container can be built.

``COPY``, ``RUN``, ``ENV``, ``ARG`` and ``WORKDIR`` do what they say below the folder; users and owners are left out.
The Python is that of the tests, not that of the base image.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[2]
LEFT_OUT = ("useradd", "chown")
"""Commands that change users and owners of the machine."""
HANDED_ON = re.compile(r"(PIP|UV|SSL)_\w+|\w+_proxy|LANG|TMPDIR", re.IGNORECASE)
"""Variables of the outside that say where packages come from, and nothing about how the image runs."""


@dataclass
class Image:
    """A folder as the image has it, and the environment in which its commands run."""

    root: Path
    environment: dict[str, str]
    folder: Path
    commands: dict[str, list[str]] = field(default_factory=dict)

    def run(self, command: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a container of the image would; raise AssertionError with its output if it fails."""
        return _run(list(command), self.folder, {**self.environment, **variables})

    def inside(self, text: str) -> str:
        """Return a text in which the folders of the image are those below ``root``."""
        return re.sub(r"(?<![\w/])/opt/", f"{self.root}/opt/", text)


def build_image(dockerfile: Path, root: Path, **arguments: str) -> Image:
    """Carry out a Dockerfile below ``root``, with the build arguments that are given."""
    venv.create(root / "python", with_pip=True)
    leave_out(root / "left_out")
    environment = {name: value for name, value in os.environ.items() if HANDED_ON.fullmatch(name)}
    path = (root / "left_out", root / "python" / "bin", "/usr/local/bin", "/usr/bin", "/bin")
    environment |= {"PATH": os.pathsep.join(map(str, path)), "HOME": str(root / "home")}
    (root / "home").mkdir()
    image = Image(root, environment, root)
    for instruction, rest in instructions(dockerfile.read_text(encoding="utf-8")):
        _carry_out(image, instruction, rest, arguments)
    return image


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction of a Dockerfile and what stands behind it, on one line."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        if line.strip():
            instruction, _, rest = line.strip().partition(" ")
            yield instruction, rest.strip()


def _carry_out(image: Image, instruction: str, rest: str, arguments: Mapping[str, str]) -> None:
    match instruction:
        case "ARG":
            name, _, default = rest.partition("=")
            image.environment[name] = arguments.get(name, default)
        case "ENV":
            pairs = re.findall(r"(\w+)=(\S+)", rest)
            image.environment |= {name: image.inside(value) for name, value in pairs}
        case "WORKDIR":
            image.folder = Path(image.inside(rest))
            image.folder.mkdir(parents=True)
        case "COPY":
            *sources, target = rest.split()
            copy_into(image.folder, sources, target)
        case "RUN":
            _run(["bash", "-euo", "pipefail", "-c", image.inside(rest)], image.folder, image.environment)
        case "CMD" | "ENTRYPOINT":
            image.commands[instruction] = [image.inside(word) for word in json.loads(rest)]
        case "FROM" | "USER" | "EXPOSE":
            return
        case _:
            raise ValueError(f"{instruction} {rest}: this instruction is not known here; add it to {__file__}")


def copy_into(folder: Path, sources: Sequence[str], target: str) -> None:
    """Copy files or folders of the repository as ``COPY`` does, if ``.dockerignore`` lets them through."""
    patterns = (HOUSE / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    left_out = {str(HOUSE / pattern) for pattern in patterns if not pattern.startswith(("!", "#", "*"))}

    def ignored(place: str, names: list[str]) -> list[str]:
        return [name for name in names if name == "__pycache__" or str(Path(place) / name) in left_out]

    for source in sources:
        assert any(Path(source).is_relative_to(kept) for kept in let_through), f".dockerignore keeps {source} out"
        destination = folder / (Path(source).name if target == "./" else target)
        if (HOUSE / source).is_dir():
            shutil.copytree(HOUSE / source, destination, ignore=ignored)
        else:
            shutil.copy(HOUSE / source, destination)


def leave_out(folder: Path) -> None:
    """Write commands that do nothing in place of those that would change the machine."""
    folder.mkdir(parents=True)
    for name in LEFT_OUT:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    process = subprocess.run(command, cwd=folder, env=dict(environment), capture_output=True, text=True, check=False)
    printed = f"{process.stdout}\n{process.stderr}"[-6000:]
    assert process.returncode == 0, f"{command} ended with {process.returncode}:\n{printed}"
    return process
