"""What the package must never do: run code that came from a file or from somebody else. S12 of the catalogue."""

import ast
from pathlib import Path

import convoscope

SOURCES = sorted(Path(convoscope.__file__).parent.rglob("*.py"))
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}
CALLS = {"eval", "exec", "torch.load", "os.system", "os.popen", "torch.hub.load", "spec.loader.exec_module"}
# Reviewed: weights whose SHA-256 was compared first, weights-only, in a process that may write nothing and reach nobody.
# And a file that the user names on the command line for its network to be used.
REVIEWED = {("training/core/unpacking.py", "torch.load"), ("cli/module_file.py", "spec.loader.exec_module")}


def findings(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {(node.module or "").split(".")[0]} & MODULES
        elif isinstance(node, ast.Call):
            found |= {ast.unparse(node.func)} & CALLS
            found |= {
                "shell=True" for word in node.keywords if word.arg == "shell" and ast.unparse(word.value) != "False"
            }
    return found


def test_nothing_runs_code_from_outside_but_what_was_reviewed() -> None:
    root = Path(convoscope.__file__).parent
    found = {
        (path.relative_to(root).as_posix(), what) for path in SOURCES for what in findings(path.read_text("utf-8"))
    }
    assert found == REVIEWED


def test_this_check_can_see() -> None:
    code = "import pickle, yaml.nodes\nfrom joblib import load\ntorch.load(x)\neval(y)\nrun(z, shell=True)\nsafetensors.torch.load(b)"
    assert findings(code) == {"pickle", "yaml", "joblib", "torch.load", "eval", "shell=True"}
