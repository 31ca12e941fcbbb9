"""One step of a loop in a process of its own: a request comes in, a result goes out, and it knows nothing else.

    python -m airflow_mlops.step fit            request on standard input, result on standard output
    python -m airflow_mlops.step candidates     function, root, seed and metrics in, candidates and refusals out
    python .../airflow_mlops/step.py fit        the same by an interpreter where the package is not installed
    python .../code.zip fit --folder /opt/ml    the same in a SageMaker container
    python .../code.zip serve --folder /opt/ml  answer a batch transform job of SageMaker there

Both are JSON. The request of a fit is a FitRequest; the answer is ``{"result": ...}``, or ``{"error": "..."}`` with
exit code 3.
Whatever the user's code prints goes to standard error. Neither Airflow nor MLflow is needed.
"""

import argparse
import importlib.util
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional  # noqa: UP035 - an old Python shall get as far as its refusal

OLDEST = (3, 11)
REFUSED = 3


def main(arguments: Optional[List[str]] = None) -> int:  # noqa: UP045, UP006
    """Run the step; return the exit code: 0, or 3 with the reason in the answer."""
    parser = argparse.ArgumentParser(prog="python -m airflow_mlops.step", description="One step of a loop.")
    parser.add_argument("step", choices=["fit", "candidates", "serve"])
    parser.add_argument("--attended", action="store_true", help="end as soon as standard input is closed")
    parser.add_argument("--address-space-mb", type=int, help="limit of the address space")
    parser.add_argument("--folder", help="folder of a SageMaker container; instead of standard input and output")
    args = parser.parse_args(arguments)
    if args.folder:
        return serve_in_container(args.folder) if args.step == "serve" else fit_in_container(args.folder)
    answering = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what user code prints is a log line, not an answer
    given = sys.stdin.buffer.readline() if args.attended else sys.stdin.buffer.read()
    if args.attended:
        threading.Thread(target=end_with_parent, daemon=True).start()
    if args.address_space_mb:
        limit_address_space(args.address_space_mb)
    answer = answered(args.step, given)
    answering.write(json.dumps(answer))
    answering.close()
    return REFUSED if "error" in answer else 0


def answered(step: str, given: bytes) -> Dict[str, Any]:  # noqa: UP006
    """Return the answer to a request."""
    unfit = unfit_interpreter()
    if unfit:
        return {"error": unfit, "unfit": True}
    find_package()
    try:
        from airflow_mlops.core.ports.fit_request import FitRequest, environment
        from airflow_mlops.core.training.fit_estimator import fit_file
        from airflow_mlops.core.training.inspect_candidates import inspect_candidates

        environment()
    except ImportError as error:
        return {"error": f"package {error.name!r} is missing there; install requirements-step.lock", "unfit": True}
    from airflow_mlops.core.errors import MlopsError
    from airflow_mlops.core.training.usable_model import error_chain

    try:
        request = json.loads(given)
        if step == "candidates":
            return {"result": inspect_candidates(**{**request, "root": Path(request["root"])})}
        return {"result": fit_file(FitRequest.from_dict(request)).to_dict()}
    except (MlopsError, MemoryError) as error:
        hungry = any(isinstance(cause, MemoryError) for cause in error_chain(error))
        return {"error": str(error) or type(error).__name__, "out_of_memory": hungry}


def fit_in_container(folder: str) -> int:
    """Fit in a SageMaker container, whose folders have their fixed places below ``/opt/ml``; return the exit code.

    The user's code lies beside this package. What is written to ``output/failure`` becomes the job's FailureReason.
    """
    base, house = Path(folder), Path(__file__).absolute().parents[1]
    given = base / "input" / "data" / "job"
    request = json.loads((given / "request.json").read_text(encoding="utf-8"))
    request.update(rows=str(given / "rows.parquet"), file=str(base / "model" / "model.skops"), root=str(house))
    if request["checkpoints"]:
        request["checkpoints"] = str(base / request["checkpoints"])
    answer = answered("fit", json.dumps(request).encode())
    if "error" in answer:
        (base / "output").mkdir(parents=True, exist_ok=True)
        (base / "output" / "failure").write_text(answer["error"], encoding="utf-8")
        return REFUSED
    (base / "model" / "result.json").write_text(json.dumps(answer["result"]), encoding="utf-8")
    return 0


def serve_in_container(folder: str) -> int:
    """Answer the requests of a batch transform job in a SageMaker container until it is ended; return the exit code."""
    unfit = unfit_interpreter()
    if unfit:
        sys.stderr.write(f"cannot serve: {unfit}\n")
        return REFUSED
    find_package()
    from airflow_mlops.core.training.transform_server import serve

    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
    host = os.environ.get("MLOPS_BIND_TO_HOST", "0.0.0.0")  # noqa: S104 - SageMaker asks from outside of the container
    serve(Path(folder) / "model", Path(__file__).absolute().parents[1], host, port)
    return 0


def unfit_interpreter() -> Optional[str]:  # noqa: UP045
    """Return why this Python cannot do it; None if it can."""
    if sys.version_info[:2] >= OLDEST:
        return None
    return "it is Python {}.{}, and 3.11 or newer is needed".format(*sys.version_info[:2])


def find_package() -> None:
    """Make this package importable from where it lies, and nothing else that is installed beside it."""
    here = Path(__file__).absolute().parent
    sys.path[:] = [path for path in sys.path if Path(path).absolute() != here]
    if "airflow_mlops" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "airflow_mlops", here / "__init__.py", submodule_search_locations=[str(here)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["airflow_mlops"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["airflow_mlops"])


def end_with_parent() -> None:
    """Kill this process and its group once nobody holds standard input open any more."""
    sys.stdin.buffer.read()
    os.kill(0, signal.SIGKILL)


def limit_address_space(megabytes: int) -> None:
    """Limit the address space, so that a huge allocation fails at once; warn where the system has no limit."""
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes * 10**6, megabytes * 10**6))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"the address space cannot be limited here: {error}\n")


if __name__ == "__main__":
    sys.exit(main())
