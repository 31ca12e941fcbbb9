"""Ask a gateway with KServe's client: arguments as JSON on standard input, its answers on standard output."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


def request(model: str, kinds: dict[str, str], rows: list[dict[str, Any]]) -> InferRequest:
    """Return rows of the same columns, of the datatypes ``kinds``, as a request of the client."""
    inputs = [InferInput(name, [len(rows)], kinds[name], [row[name] for row in rows]) for name in rows[0]]
    return InferRequest(model, inputs, request_id="42")


async def ask(url: str, model: str, token: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the client's answers about the server and the model, and the outputs for the rows."""
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    headers = {"authorization": f"Bearer {token}"}
    answers: dict[str, Any] = {
        "live": await client.is_server_live(url, headers=headers),
        "ready": await client.is_server_ready(url, headers=headers),
        "model_ready": await client.is_model_ready(url, model, headers=headers),
        "other_model_ready": await client.is_model_ready(url, f"{model}-x", headers=headers),
    }
    # The client has no method for the metadata of a model, which say how a request is built.
    metadata = httpx.get(f"{url}/v2/models/{model}", headers=headers, trust_env=False).json()
    kinds = {column["name"]: column["datatype"] for column in metadata["inputs"]}
    response = await client.infer(url, request(model, kinds, rows), model_name=model, headers=dict(headers))
    answers |= {"id": response.id, "model": response.model_name, "versions": metadata["versions"]}
    answers["outputs"] = [
        {"name": output.name, "datatype": output.datatype, "shape": output.shape, "data": output.as_numpy().tolist()}
        for output in response.outputs
    ]
    for case, name, sent, lines in (
        ("wrong_model", f"{model}-x", headers, rows),
        ("wrong_token", model, {"authorization": "Bearer x"}, rows),
        ("missing_column", model, headers, [{name: row[name] for name in row if name != "x"} for row in rows]),
    ):
        try:
            await client.infer(url, request(name, kinds, lines), model_name=name, headers=dict(sent))
        except httpx.HTTPStatusError as error:
            answers[case] = {"status": error.response.status_code, "words": str(error)}
    await client.close()
    return answers


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask(**json.load(sys.stdin)))))  # noqa: T201
