"""The OpenAPI document, and requests made from it by the thousand."""

import json
import os
import subprocess
import sys
from pathlib import Path

from convoscope.studio.schema import document
from tests.support.studios import Served


def test_the_document_is_the_same_everywhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "convoscope.studio.schema"]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    written = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path, env=environment).stdout
    assert json.loads(written) == json.loads(json.dumps(document()))
    assert document()["info"] == {"title": "convoscope studio", "version": "1"}
    text = written.decode()
    assert str(Path.home()) not in text
    assert list(tmp_path.iterdir()) == []


def test_the_document_starts_nothing() -> None:
    code = "import sys; from convoscope.studio.schema import document; document(); print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"


def test_every_route_says_what_it_answers_and_how_it_refuses() -> None:
    paths = document()["paths"]
    names = []
    for path, methods in paths.items():
        assert path.startswith("/api/")
        for method, route in methods.items():
            names.append(route["operationId"])
            assert set(route["responses"]) == {"200", "4XX", "5XX"}, (path, method)
            for status, schema in route["responses"].items():
                reference = schema["content"]["application/json"]["schema"]
                if status != "200":
                    assert reference == {"$ref": "#/components/schemas/Refusal"}
                else:
                    assert reference != {}, (path, method)
            assert route["description"]
    assert len(set(names)) == len(names) >= 14
    assert "HTTPValidationError" not in document()["components"]["schemas"]


def test_the_document_is_behind_the_guard(served: Served) -> None:
    with served.client() as client:
        found = client.get("/api/openapi.json").json()
    assert found == json.loads(json.dumps(document()))


def test_the_pages_types_are_made_of_this_document(tmp_path: Path) -> None:
    described = tmp_path / "openapi.json"
    described.write_text(json.dumps(document()), encoding="utf-8")
    root = Path(__file__).parents[2]
    made = ["exec", "--", "openapi-typescript", str(described), "--output", str(tmp_path / "schema.d.ts")]
    subprocess.run([sys.executable, root / "tools" / "npm.py", *made], check=True, capture_output=True)
    kept = (root / "web" / "src" / "api" / "schema.d.ts").read_text(encoding="utf-8")
    assert (tmp_path / "schema.d.ts").read_text(encoding="utf-8") == kept, "make them anew with: make types"
