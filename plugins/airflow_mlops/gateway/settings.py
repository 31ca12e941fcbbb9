"""The settings of a gateway, and how the command line and the environment give them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.lake import Lake
from airflow_mlops.core.ports.signing_keys import KeyFolder, SigningKeys, StaticKeys
from airflow_mlops.core.rollout.targets.gateway.replica_addresses import split_http_url

TOKEN = "AIRFLOW_MLOPS_GATEWAY_TOKEN"  # noqa: S105 - the name of a variable
CONTROL_TOKEN = "AIRFLOW_MLOPS_GATEWAY_CONTROL_TOKEN"  # noqa: S105 - the name of a variable
MASK_SECRET = "AIRFLOW_MLOPS_MASK_SECRET"  # noqa: S105 - the name of a variable
MIN_TOKEN_LENGTH = 16
"""Characters of the shortest token."""


@dataclass(frozen=True)
class Settings:
    """The settings of a gateway.

    Parameters
    ----------
    loop : Loop
        The declaration: columns, features, whether the label is a class.
    root : Path
        Project folder: base of the relative paths in the declaration.
    lake : Lake
        Folder of the files of all loops; read only when a version is prepared.
    state_dir : Path
        The gateway's own folder: its state, and copies of its versions. Replicas must not share it.
    log_dir : Path
        Folder of the prediction log.
    keys : SigningKeys
        Trusted keys of signatures.
    token, control_token : str, optional
        Tokens of requests for predictions and for control; None with ``--insecure``.
    body_bytes : int
        Largest body of a request.
    most_waiting : int
        Rows that may wait for a version before requests are refused.
    answer_seconds, challenger_seconds : float
        Time limits of the champion, and of the challenger before the champion answers in its place.
    drain_seconds : float
        Seconds between not being ready and closing the port.
    log_seconds, log_rows : float and int
        Limits after which a file of the log is written.
    shadow_waiting : int
        Rows that may be in flight to the shadow; further rows are dropped.
    onnx : bool
        Whether to try ONNX.
    peers : tuple of str
        Addresses of the other replicas, which are asked for newer traffic; a name stands for all addresses it has.
    peer_seconds, peer_wait_seconds : float
        Seconds between two questions to them, and how long a replica that starts waits for the first answer.
    secret : str, optional
        Secret that masks personal columns; needed if the contract masks any.
    """

    loop: Loop
    root: Path
    lake: Lake
    state_dir: Path
    log_dir: Path
    keys: SigningKeys
    host: str = "127.0.0.1"
    port: int = 8600
    token: str | None = field(default=None, repr=False)
    control_token: str | None = field(default=None, repr=False)
    body_bytes: int = 1_000_000
    most_waiting: int = 2_000
    answer_seconds: float = 10.0
    challenger_seconds: float = 2.0
    drain_seconds: float = 0.0
    log_seconds: float = 10.0
    log_rows: int = 50_000
    shadow_waiting: int = 1_000
    onnx: bool = False
    peers: tuple[str, ...] = ()
    peer_seconds: float = 5.0
    peer_wait_seconds: float = 10.0
    secret: str | None = field(default=None, repr=False)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of a gateway to a command."""
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "mlops"
    command.add_argument("--host", default="127.0.0.1", help="address to listen on")
    command.add_argument("--port", type=int, default=8600, help="port to listen on")
    command.add_argument("--lake", default=str(home / "lake"), help="folder of the lake, or s3://bucket/prefix")
    command.add_argument("--state-dir", type=Path, default=home / "gateway" / "state", help="the gateway's own folder")
    command.add_argument("--log-dir", type=Path, default=home / "gateway" / "log", help="folder of the prediction log")
    command.add_argument(
        "--public-key",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="PEM of a key whose signatures count, may be given more than once; those of the folder keys by default",
    )
    command.add_argument("--token-file", type=Path, help=f"file of the token for predictions; or {TOKEN}")
    command.add_argument("--control-token-file", type=Path, help=f"file of the token for control; or {CONTROL_TOKEN}")
    command.add_argument("--insecure", action="store_true", help="ask for no token: for a machine of one's own")
    command.add_argument("--body-bytes", type=int, default=1_000_000, help="largest body of a request")
    command.add_argument("--most-waiting", type=int, default=2_000, help="rows that may wait for a version")
    command.add_argument("--answer-seconds", type=float, default=10.0, help="how long a request waits for the champion")
    command.add_argument(
        "--challenger-seconds", type=float, default=2.0, help="how long for the challenger, before the champion answers"
    )
    command.add_argument("--drain-seconds", type=float, default=0.0, help="how long not ready before it stops")
    command.add_argument(
        "--log-seconds", type=float, default=10.0, help="when a file of the log is written at the latest"
    )
    command.add_argument("--log-rows", type=int, default=50_000, help="lines of a file of the log")
    command.add_argument("--shadow-waiting", type=int, default=1_000, help="rows that may wait for the shadow")
    command.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="URL",
        help="address of a replica, or a name of all, to ask for newer traffic; may be given more than once",
    )
    command.add_argument("--peer-seconds", type=float, default=5.0, help="seconds between two questions to the peers")
    command.add_argument(
        "--peer-wait-seconds", type=float, default=10.0, help="how long a start waits for the first answer of a peer"
    )
    command.add_argument("--onnx", action="store_true", help="predict by ONNX where it says the same; needs its extra")


def build_settings(args: argparse.Namespace, loop: Loop, environment: Mapping[str, str]) -> Settings:
    """Return the settings of a command line and the environment.

    Raises
    ------
    DeclarationError
        If a token is missing, too short, or the same for both, or a key cannot be read.
    """
    tokens: tuple[str | None, str | None] = (None, None)
    if not args.insecure:
        tokens = (
            read_token(args.token_file, environment, TOKEN),
            read_token(args.control_token_file, environment, CONTROL_TOKEN),
        )
        if tokens[0] == tokens[1]:
            raise DeclarationError("the tokens for predictions and for control must not be the same")
    lake = Lake(args.lake) if args.lake.startswith("s3://") else Lake.on_disk(args.lake)
    return Settings(
        loop=loop,
        root=args.root.resolve(),
        lake=lake,
        keys=read_keys(args.public_key, lake),
        state_dir=args.state_dir,
        log_dir=args.log_dir,
        host=args.host,
        port=args.port,
        token=tokens[0],
        control_token=tokens[1],
        body_bytes=args.body_bytes,
        most_waiting=args.most_waiting,
        answer_seconds=args.answer_seconds,
        challenger_seconds=args.challenger_seconds,
        drain_seconds=args.drain_seconds,
        log_seconds=args.log_seconds,
        log_rows=args.log_rows,
        shadow_waiting=args.shadow_waiting,
        onnx=args.onnx,
        peers=read_peers(args.peer),
        peer_seconds=args.peer_seconds,
        peer_wait_seconds=args.peer_wait_seconds,
        secret=environment.get(MASK_SECRET),
    )


def read_peers(peers: list[str]) -> tuple[str, ...]:
    """Return the addresses of peers, or raise DeclarationError for one that is none."""
    for peer in peers:
        if split_http_url(peer) is None:
            raise DeclarationError(f"--peer is {peer[:300]!r}; it must be an address, as http://bakery-control:8600")
    return tuple(peer.rstrip("/") for peer in peers)


def read_token(file: Path | None, environment: Mapping[str, str], name: str) -> str:
    """Return a token from its file or the environment; errors never repeat it."""
    try:
        token = file.read_text().strip() if file else environment.get(name, "")
    except OSError as error:
        raise DeclarationError(f"cannot be read: {error.strerror}", file=str(file)) from None
    if not token:
        raise DeclarationError(f"there is no token: set {name}, name its file, or pass --insecure")
    if len(token) < MIN_TOKEN_LENGTH:
        raise DeclarationError(f"the token of {name} has {len(token)} characters; it needs {MIN_TOKEN_LENGTH}")
    return token


def read_keys(files: list[Path], lake: Lake) -> SigningKeys:
    """Return the trusted keys: from the given files, or the folder ``keys`` beside a local lake."""
    if files:
        try:
            return StaticKeys(public_keys=tuple(file.read_text() for file in files))
        except OSError as error:
            raise DeclarationError(f"cannot be read: {error.strerror}", file=str(error.filename)) from None
    if not lake.is_local:
        raise DeclarationError("the lake is in S3: name the file of a trusted public key (--public-key)")
    return KeyFolder(lake.path.parent / "keys")
