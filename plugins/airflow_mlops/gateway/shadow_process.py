"""The process of a shadow: load one version, and predict the rows that arrive on standard input.

    python -m airflow_mlops.gateway.shadow_process

The first message is the configuration: loop, root, folder of copies, version, public keys. Every further message is a
list of rows. Answers go to standard output in the same format, and everything that libraries print to standard error.
The process ends with its input.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from airflow_mlops.gateway.shadow_link import ShadowResult, ShadowRow, encode_frame

if TYPE_CHECKING:
    from airflow_mlops.gateway.model_cache import LoadedVersion

NICER = 10
"""Niceness of the shadow: it yields to the processes that answer requests."""


def main() -> int:
    """Load the version, report it, and predict until the input ends."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before a version brings scikit-learn: one row needs no threads
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.nice(NICER)
    frame = read_frame(sys.stdin.buffer)
    if frame is None:
        return 1
    try:
        loaded = load(msgspec.msgpack.decode(frame))
    except Exception as error:  # a version may fail to load in any way; the gateway reports it
        write_frame(answers, {"error": f"{type(error).__name__}: {error}"})
        return 1
    write_frame(answers, {"ready": loaded.version.number})
    rows = msgspec.msgpack.Decoder(list[ShadowRow])
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        write_frame(answers, [predict_row(loaded, row) for row in rows.decode(frame)])
    return 0


def load(config: dict[str, Any]) -> LoadedVersion:
    """Return the loaded version of a configuration, verified once more."""
    from airflow_mlops.core.declaration.loop import Loop
    from airflow_mlops.core.lake import Lake
    from airflow_mlops.core.ports.signing_keys import StaticKeys
    from airflow_mlops.gateway.model_cache import VersionLoader
    from airflow_mlops.gateway.version_files import ServedVersion, VersionFiles

    kept = Path(config["kept"])
    files = VersionFiles(kept, Lake.on_disk(kept.parent / "nowhere"), StaticKeys(public_keys=tuple(config["keys"])))
    loader = VersionLoader(
        Loop(**config["loop"]), Path(config["root"]), files, secret=config["secret"], onnx=bool(config["onnx"])
    )
    return loader.load(ServedVersion.from_dict(config["version"]))


def predict_row(loaded: LoadedVersion, row: ShadowRow) -> ShadowResult:
    """Return the result of a row that is predicted by itself."""
    from airflow_mlops.gateway.micro_batcher import predict_rows

    began = time.perf_counter()
    try:
        rows, _single = loaded.shape.decode_rows(row.body)
        outcome = predict_rows(loaded.backend, [rows[row.place]])[0]
    except Exception as error:  # the gateway has decoded this row before: any failure here is the version's
        outcome = f"{type(error).__name__}: {error}"[:300]
    seconds = time.perf_counter() - began
    if isinstance(outcome, str):
        return ShadowResult(row.number, None, outcome, seconds)
    return ShadowResult(row.number, outcome, None, seconds)


def write_frame(answers: BinaryIO, message: Any) -> None:
    """Write a message as a frame."""
    answers.write(encode_frame(message))
    answers.flush()


def read_frame(source: BinaryIO) -> bytes | None:
    """Return the content of the next frame; None at the end of the input."""
    length = source.read(4)
    if len(length) < 4:
        return None
    size = int.from_bytes(length, "big")
    content = source.read(size)
    return content if len(content) == size else None


if __name__ == "__main__":
    sys.exit(main())
