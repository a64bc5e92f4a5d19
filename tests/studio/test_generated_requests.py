"""5,000 requests generated from the OpenAPI document against the running server: none is answered by a 5xx, each as documented.

`CONVOSCOPE_REQUESTS=500` sends fewer.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from convoscope.studio.drawables import PREFIX
from convoscope.studio.messages.common import Maps, Refusal
from convoscope.studio.samples import SAMPLES
from convoscope.studio.schema import document
from convoscope.training import train
from tests.support.studios import Served, serving

REQUESTS = int(os.environ.get("CONVOSCOPE_REQUESTS", "5000"))

RUN = {"name": "0"}
# What leads further than to a 404; the rest of such a request is generated.
KNOWN: dict[str, dict[str, Any]] = {
    "/api/tiny/{name}": {"path_parameters": {"name": "lines"}},
    "/api/samples/{name}": {"path_parameters": {"name": SAMPLES[0]}},
    "/api/runs/{name}/filters": {"path_parameters": RUN},
    "/api/runs/{name}/filters/{layer}/{index}": {"path_parameters": {**RUN, "layer": "conv1"}},
    "/api/draw/models/{model}": {"path_parameters": {"model": f"{PREFIX}0"}},
    "/api/draw/guess": {"query": {"model": f"{PREFIX}0"}},
    "/api/convolve": {},
}
DRAWING = bytes(32_000) + b"\xff" * 4_000 + bytes(29_536)
IMAGE = Maps.of(np.arange(48.0).reshape(4, 4, 3)).model_dump()
IMAGES = "/api/images"


@pytest.fixture(scope="module")
def with_a_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("studio")
    model = "conv(2) relu maxpool(4) flatten dense"
    train("builtin:drawings/apple,banana", model, output=folder / "runs" / "0", epochs=1)
    with serving(folder) as one:
        yield one


@pytest.mark.slow
def test_no_generated_request_gives_a_server_error(with_a_run: Served, cache_folder: Path) -> None:
    """The reach of R: 5,000 generated requests, 0 x 500; what is refused is refused as a `Refusal`."""
    loaded = schemathesis.openapi.from_dict(document())
    operations = []
    for found in loaded.get_all_operations():
        assert isinstance(found, Ok)
        operations.append(found.ok())
    assert len(operations) >= 14
    headers = with_a_run.headers()
    answers: Counter[tuple[str, int]] = Counter()

    with requests.Session() as session:
        session.trust_env = False

        def send(case: Case[Any]) -> None:
            answer = case.call(base_url=with_a_run.url, session=session, headers=headers, timeout=60)
            answers[case.operation.path, answer.status_code] += 1
            assert answer.status_code < 500, answer.text
            if answer.status_code >= 400:
                Refusal.model_validate_json(answer.content)
            case.validate_response(answer, checks=[status_code_conformance, response_schema_conformance])

        # Each image costs a process, and most are nonsense: a few will do. Where nothing can be said, once is enough.
        few = REQUESTS // 100
        with_input = [operation for operation in operations if _takes_input(operation)]
        each = (REQUESTS - few) // (len(with_input) - 1) + 1
        for operation in operations:
            count = few if operation.path == IMAGES else each if operation in with_input else 1

            def requested(mode: GenerationMode, operation: Any = operation) -> Any:
                anything = operation.as_strategy(generation_mode=mode)
                if operation.path not in KNOWN:
                    return anything
                known = operation.as_strategy(generation_mode=mode, **KNOWN[operation.path])
                return st.one_of(anything, known.map(_with_an_image))

            sent = sum(answers.values())
            # Where any text is allowed, there is nothing wrong to be said.
            with contextlib.suppress(Unsatisfiable):
                _send_all(requested(GenerationMode.NEGATIVE), send, count // 2)
            _send_all(requested(GenerationMode.POSITIVE), send, count - (sum(answers.values()) - sent))

    assert sum(answers.values()) >= REQUESTS * 0.9, answers
    assert with_a_run.faults == []
    for operation in operations:
        statuses = {status for path, status in answers if path == operation.path}
        assert statuses, operation.path
        if operation.method == "get" or operation.path.endswith(("/guess", "/convolve")):
            assert 200 in statuses, (operation.path, statuses)


def _with_an_image(case: Case[Any]) -> Case[Any]:
    """Numbers as base64 are never right by chance."""
    if case.operation.path == "/api/draw/guess":
        case.body = DRAWING
    if case.operation.path == "/api/convolve" and isinstance(case.body, dict):
        case.body = {**case.body, "image": IMAGE}
    return case


def _takes_input(operation: Any) -> bool:
    described = document()["paths"][operation.path][operation.method]
    return "parameters" in described or "requestBody" in described


def _send_all(requested: Any, send: Any, count: int) -> None:
    @settings(
        max_examples=max(1, count),
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(requested)
    def each(case: Case[Any]) -> None:
        send(case)

    each()
