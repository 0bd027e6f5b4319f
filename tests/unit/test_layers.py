"""The house's arrows: who may import whom, what stays out of the dashboard's process, what nobody may do.

Files are read with `ast`, so an import inside a function counts like one at the top. Each rule is also shown to fail
on a small bad tree: a checker that cannot fail holds nothing.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LAYERS = (
    "errors", "progress", "folders", "rates", "fingerprint", "hub", "spec_checks", "spec_file", "spec", "stats",
    "results", "figures", "bundle", "text", "nets", "measure", "train", "judge", "jobs", "store", "cli",
)  # fmt: skip
"""Each may import itself and those before it."""
FRONT = ("", "__main__")
"""`import sts_core` and `python -m sts_core`: above every layer."""
LIGHT = (
    "errors", "progress", "folders", "rates", "fingerprint", "hub", "spec_checks", "spec_file", "spec", "stats",
    "results", "figures", "jobs", "store",
)  # fmt: skip
"""What the dashboard's process imports, but for the files of them that run elsewhere."""
ELSEWHERE = ("sts_core.jobs.worker", "sts_core.jobs.warm_worker")
HEAVY_LAYERS = ("nets", "measure", "train", "judge")
HEAVY = ("torch", "transformers", "sae_lens")
UNSAFE = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
LONGEST_FILE = 400


def test_the_project_keeps_the_rules() -> None:
    assert offences(PROJECT) == []


def test_the_light_layers_import_no_model_library() -> None:
    """Really imported, in one fresh process: also what is imported by way of something else is seen."""
    modules = ["sts_core"]
    for layer in ("stats", "results", "figures", "jobs", "store"):
        for path in sorted((PROJECT / "sts_core" / layer).rglob("*.py")):
            name = module_name(path, PROJECT)
            if name not in ELSEWHERE:
                modules.append(name)
    script = "\n".join(
        [
            "import importlib, sys",
            f"for name in {modules!r}: importlib.import_module(name)",
            f"print(*sorted({set(HEAVY) | {'streamlit'}!r} & set(sys.modules)))",
        ]
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == ""


@pytest.mark.parametrize(
    ("path", "code", "told"),
    [
        ("sts_core/stats/a.py", "from sts_core.results import folder", "stats imports results"),
        ("sts_core/stats/a.py", "def f():\n    import sts_core.cli", "stats imports cli"),
        ("sts_core/stats/a.py", "from sts_core import train", "stats imports train"),
        ("sts_core/stats/a.py", "from ..measure import run", "stats imports measure"),
        ("sts_core/stats/a.py", "import importlib\nimportlib.import_module('sts_core.nets')", "stats imports nets"),
        ("sts_core/stats/a.py", "from sts_core import Spec", "stats imports the front"),
        ("sts_core/extras/a.py", "", "extras is no layer"),
        ("sts_core/figures/a.py", "def f():\n    from torch import nn", "figures imports torch"),
        ("sts_core/jobs/launch.py", "from sts_core.measure import run", "jobs imports measure"),
        ("sts_core/measure/a.py", "import streamlit as st", "imports streamlit"),
        ("benchmarks/a.py", "import streamlit.testing", "imports streamlit"),
        ("app.py", "def f():\n    import torch", "imports torch"),
        ("pages/views/a.py", "from sae_lens import SAE", "imports sae_lens"),
        ("pages/home.py", "", "lies directly in pages/"),
        ("pages/__init__.py", "", "lies directly in pages/"),
        ("pages/views/a.py", "import streamlit as st\nst.markdown('x', unsafe_allow_html=True)", "unsafe_allow_html"),
        ("sts_core/nets/a.py", "import pickle", "imports pickle"),
        ("sts_core/nets/a.py", "import torch\ntorch.load('x')", "torch.load"),
        ("sts_core/nets/a.py", "import numpy as np\nnp.load('x', allow_pickle=True)", "allow_pickle"),
        ("sts_core/nets/a.py", "load(trust_remote_code=True)", "trust_remote_code"),
        ("sts_core/nets/a.py", "load(**{'trust_remote_code': True})", "trust_remote_code"),
        ("sts_core/nets/a.py", "x = 1\n" * (LONGEST_FILE + 1), "lines"),
    ],
)
def test_a_bad_tree_is_told(tmp_path: Path, path: str, code: str, told: str) -> None:
    write(tmp_path, path, code)
    found = offences(tmp_path)
    assert len(found) == 1, found
    assert told in found[0]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("sts_core/results/a.py", "from sts_core.stats import b\nfrom sts_core import folders, __version__"),
        ("sts_core/jobs/worker.py", "def f():\n    from sts_core.measure.run import run"),
        ("sts_core/__init__.py", "def __getattr__(name):\n    from sts_core.measure import run"),
        ("sts_core/__main__.py", "from sts_core.cli import main"),
        ("sts_core/nets/a.py", "def f(trusted):\n    load(trust_remote_code=trusted)"),
        ("sts_core/nets/a.py", '"""Never pickle, never unsafe_allow_html=True."""'),
        ("app.py", "import streamlit"),
        ("pages/parts/a.py", "import streamlit"),
    ],
)
def test_a_good_tree_is_not(tmp_path: Path, path: str, code: str) -> None:
    write(tmp_path, path, code)
    assert offences(tmp_path) == []


def write(root: Path, path: str, code: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(code, encoding="utf-8")


def offences(root: Path) -> list[str]:
    """Every breach of a rule under a project root, one line each."""
    found = [f"{page.relative_to(root)} lies directly in pages/" for page in sorted((root / "pages").glob("*.py"))]
    for path in python_files(root):
        place = path.relative_to(root)
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, filename=str(place))
        if text.count("\n") > LONGEST_FILE:
            found.append(f"{place} has {text.count(chr(10))} lines, more than {LONGEST_FILE}")
        if place.parts[0] == "tests":
            continue
        names = set(imports(tree, module_name(path, root), is_package=path.name == "__init__.py"))
        if place.parts[0] == "sts_core":
            found += [f"{place}: {told}" for told in layer_breaches(module_name(path, root), names)]
        if place.parts[0] in ("app.py", "pages"):
            found += [f"{place} imports {name}: a page asks a worker for it" for name in names if top(name) in HEAVY]
        if place.parts[0] in ("sts_core", "benchmarks") and any(top(name) == "streamlit" for name in names):
            found.append(f"{place} imports streamlit, which belongs in app.py and pages/")
        found += [f"{place} imports {name}" for name in sorted(names) if top(name) in UNSAFE]
        found += [f"{place}, line {line}: {what}" for line, what in unsafe_calls(tree)]
    return found


def python_files(root: Path) -> list[Path]:
    roots = [root / name for name in ("sts_core", "pages", "benchmarks", "tests")]
    return [*sorted(root.glob("*.py")), *(path for folder in roots for path in sorted(folder.rglob("*.py")))]


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top(name: str) -> str:
    return name.split(".")[0]


def imports(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[str]:
    """The full names a file imports, at any depth; `from a import b` gives `a.b`."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and last_name(node.func) in ("import_module", "__import__"):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


def layer_breaches(module: str, names: set[str]) -> list[str]:
    """Where a file of the core reaches up, reaches for a model library it must not have, or has no place at all."""
    layer = layer_of(module)
    if layer in FRONT:
        return []
    if layer not in LAYERS:
        return [f"{layer} is no layer: give it a place in LAYERS"]
    light = layer in LIGHT and module not in ELSEWHERE
    found = {f"{layer} imports {top(name)}" for name in names if light and top(name) in HEAVY}
    for name in names:
        if top(name) != "sts_core":
            continue
        other = layer_of(name)
        if other in LAYERS:
            if LAYERS.index(other) > LAYERS.index(layer) or (light and other in HEAVY_LAYERS):
                found.add(f"{layer} imports {other}")
        elif not other.startswith("__") or other in FRONT:
            found.add(f"{layer} imports the front of the package ({name})")
    return sorted(found)


def layer_of(name: str) -> str:
    """`sts_core.stats.ranking` → `stats`; `sts_core` → nothing."""
    return [*name.split("."), ""][1]


def unsafe_calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Calls that run what a file or a page brought along, by their line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            yield node.lineno, "torch.load unpickles"
        elif isinstance(node, ast.keyword) and node.arg == "unsafe_allow_html":
            yield node.lineno, "unsafe_allow_html"
        elif (
            isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle") and is_true(node.value)
        ):
            yield node.lineno, f"{node.arg}=True"
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "trust_remote_code" and is_true(value):
                    yield node.lineno, "trust_remote_code: True"


def is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def last_name(node: ast.expr) -> str:
    """`importlib.import_module` → `import_module`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
