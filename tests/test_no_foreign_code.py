"""Nothing that kdsearch reads can run code: the calls that could are looked for in the syntax of every module.

A call that is needed stands in ALLOWED, with the reason why it runs no foreign code. Who adds one adds the reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("analysis", "search", "spaces", "trainables")

# (file, call): why it runs no code of others
ALLOWED = {
    (
        "trainables/data/pickled.py",
        "pickle.Unpickler",
    ): "its find_class knows seven names and imports none of them",
    ("trainables/networks/files.py", "torch.load"): "weights_only=True",
    ("spaces/files.py", "yaml.load"): "its loader is a subclass of yaml.SafeLoader",
    ("spaces/files.py", "yaml.dump"): "its dumper is a subclass of yaml.SafeDumper",
    ("search/cli/__init__.py", "import_module"): "a module of this package, by the table of commands",
    ("search/shipping.py", "import_module"): "the rooms of this package, by a constant list",
    ("search/searchers/tpe.py", "import_module"): "a module of this package, by the table of libraries",
    ("trainables/registry.py", "import_module"): "a module of this package, by the table of kinds",
    (
        "search/searchers/registry.py",
        "metadata.entry_points",
    ): "of packages that are installed, docs/searchers.md",
    ("search/code_version.py", "subprocess.run"): "git, with constant arguments",
    ("search/runner_access.py", "subprocess.run"): "this Python, with a script of the module",
    ("trainables/records/cache.py", "np.fromfile"): "plain numbers",
    ("trainables/records/cache.py", "np.memmap"): "plain numbers",
    ("trainables/records/eicu_hours.py", "np.fromfile"): "plain numbers",
}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__", "import_module", "breakpoint"}
FORBIDDEN_MODULES = {
    "cloudpickle", "code", "dill", "importlib.machinery", "imp", "joblib", "jsonpickle", "marshal", "pickle", "pty",
    "runpy", "shelve", "shutil.unpack_archive", "tarfile",
}  # fmt: skip
FORBIDDEN_CALLS = {
    "importlib.import_module", "metadata.entry_points", "importlib.metadata.entry_points",
    "os.execv", "os.execve", "os.execvp", "os.popen", "os.spawnl", "os.spawnv", "os.startfile", "os.system",
    "subprocess.Popen", "subprocess.call", "subprocess.check_call", "subprocess.check_output",
    "subprocess.getoutput", "subprocess.run", "asyncio.create_subprocess_shell",
    "pd.read_pickle", "pandas.read_pickle", "pd.eval", "pandas.eval", "pd.read_hdf",
    "np.load", "numpy.load", "np.fromfile", "numpy.fromfile", "np.memmap", "np.lib.format.open_memmap",
    "torch.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter",
    "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.dump", "yaml.Loader", "yaml.FullLoader",
    "yaml.UnsafeLoader", "yaml.CLoader",
    "pickle.load", "pickle.loads", "pickle.Unpickler",
    "shutil.unpack_archive", "tempfile.mktemp",
}  # fmt: skip
SAFE_ARGUMENTS = {"allow_pickle": False, "shell": False, "autoescape": True}
FORBIDDEN_METHODS = {"extractall", "extract", "read_pickle"}


@cache
def modules() -> dict[str, ast.Module]:
    """The syntax of every module, by its path below the root."""
    paths = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` of a name or attribute; None for anything else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def found_in(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Forbidden imports, names, calls and arguments in a module, with their lines."""
    for node in ast.walk(tree):
        for what in found_at(node):
            yield what, getattr(node, "lineno", 0)


def found_at(node: ast.AST) -> list[str]:
    match node:
        case ast.Import():
            return [f"import {alias.name}" for alias in node.names if alias.name in FORBIDDEN_MODULES]
        case ast.ImportFrom():
            return [
                f"from {node.module} import {a.name}" for a in node.names if forbidden(node.module, a.name)
            ]
        case ast.Name():
            return [node.id] if node.id in FORBIDDEN_NAMES else []
        case ast.Attribute():
            name = dotted(node)
            return [name or node.attr] if name in FORBIDDEN_CALLS or node.attr in FORBIDDEN_METHODS else []
        case ast.keyword(arg=str(name), value=value) if name in SAFE_ARGUMENTS:
            safe = isinstance(value, ast.Constant) and value.value is SAFE_ARGUMENTS[name]
            return [] if safe else [f"{name}="]
    return []


def forbidden(module: str | None, name: str) -> bool:
    if (module, name) == ("importlib", "import_module"):
        return False  # its use is looked for
    return module in FORBIDDEN_MODULES or f"{module}.{name}" in FORBIDDEN_MODULES | FORBIDDEN_CALLS


def test_no_module_can_run_what_it_reads():
    left = set(ALLOWED)
    wrong = []
    for name, tree in modules().items():
        for what, line in found_in(tree):
            if what == "import pickle" and any(file == name for file, _ in ALLOWED):
                continue
            if (name, what) in ALLOWED:
                left.discard((name, what))
            else:
                wrong.append(f"{name}:{line}: {what}")
    assert not wrong
    assert not left  # an exception that nothing needs any more is taken out


def test_every_torch_load_says_that_it_loads_weights_only():
    calls = [
        node
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and dotted(node.func) == "torch.load"
    ]
    assert calls
    for call in calls:
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        assert isinstance(given["weights_only"], ast.Constant)
        assert given["weights_only"].value is True


def test_every_subprocess_has_a_list_of_arguments_and_no_shell():
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (dotted(node.func) or "").startswith("subprocess."):
                assert isinstance(node.args[0], ast.List), f"{name}:{node.lineno}"
                assert all(keyword.arg != "shell" for keyword in node.keywords)


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "exec(text)",
        "__import__('os')",
        "import pickle",
        "import pickle\npickle.loads(b'')",
        "from pickle import loads",
        "from yaml import unsafe_load",
        "import yaml\nyaml.load(text, Loader=yaml.FullLoader)",
        "np.load(path, allow_pickle=True)",
        "x = pd.read_pickle",
        "archive.extractall(folder)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "Environment(autoescape=False)",
        "import tarfile",
        "from importlib import import_module\nimport_module(name)",
    ],
)
def test_what_is_looked_for_is_found(source):
    assert list(found_in(ast.parse(source)))
