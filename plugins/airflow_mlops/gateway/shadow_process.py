"""The process of a shadow: loads one version, and predicts the rows that come over its standard input.

    python -m airflow_mlops.gateway.shadow_process

The first message says what to load: loop, root, folder of copies, version, public keys. Every further one is a list
of rows. Answers go to standard output in the same form; whatever else is printed goes to standard error. It ends
with its input.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

os.environ.setdefault("OMP_NUM_THREADS", "1")

import msgspec

from airflow_mlops.gateway.shadow_link import ShadowResult, ShadowRow, framed

NICER = 10
"""By how much the shadow yields to the processes that answer requests."""


def main() -> int:
    """Load the version, say so, and predict until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.nice(NICER)
    told = message(sys.stdin.buffer)
    if told is None:
        return 1
    try:
        loaded = load(msgspec.msgpack.decode(told))
    except Exception as error:  # a version may fail to load in any way; the gateway says which
        send(answers, {"error": f"{type(error).__name__}: {error}"})
        return 1
    send(answers, {"ready": loaded.version.number})
    rows = msgspec.msgpack.Decoder(list[ShadowRow])
    while (more := message(sys.stdin.buffer)) is not None:
        send(answers, [predicted(loaded, one) for one in rows.decode(more)])
    return 0


def load(told: dict[str, Any]) -> Any:
    """Return the version that the gateway names, verified here once more."""
    from airflow_mlops.core.declaration.loop import Loop
    from airflow_mlops.core.lake import Lake
    from airflow_mlops.core.ports.signing_keys import GivenKeys
    from airflow_mlops.gateway.loading import VersionLoader
    from airflow_mlops.gateway.version_files import ServedVersion, VersionFiles

    kept = Path(told["kept"])
    files = VersionFiles(kept, Lake.on_disk(kept.parent / "nowhere"), GivenKeys(public_keys=tuple(told["keys"])))
    loader = VersionLoader(
        Loop(**told["loop"]), Path(told["root"]), files, secret=told["secret"], onnx=bool(told["onnx"])
    )
    return loader.load(ServedVersion.of(told["version"]))


def predicted(loaded: Any, row: ShadowRow) -> ShadowResult:
    """Return what the version makes of a row, as fast as it does it alone."""
    from airflow_mlops.gateway.micro_batcher import outcomes_of

    began = time.perf_counter()
    try:
        rows, _single = loaded.shape.rows_of(row.body)
        outcome = outcomes_of(loaded.ready, [rows[row.place]])[0]
    except Exception as error:  # the gateway has read this row before; what fails here is told to it
        outcome = f"{type(error).__name__}: {error}"[:300]
    seconds = time.perf_counter() - began
    if isinstance(outcome, str):
        return ShadowResult(row.number, None, outcome, seconds)
    return ShadowResult(row.number, outcome, None, seconds)


def send(answers: BinaryIO, said: Any) -> None:
    """Write a message."""
    answers.write(framed(said))
    answers.flush()


def message(source: BinaryIO) -> bytes | None:
    """Return the next message; None at the end of the input."""
    length = source.read(4)
    if len(length) < 4:
        return None
    size = int.from_bytes(length, "big")
    content = source.read(size)
    return content if len(content) == size else None


if __name__ == "__main__":
    sys.exit(main())
