"""Importing kvengine from a source checkout compiles what was edited: kvengine/_checkout.py.

With the real setup.py, in a tree with one small module.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.processes import children
from tests.waiting import HANG_S, until

ROOT = Path(__file__).parent.parent
FILES = {
    "kvengine/__init__.py": "from kvengine import _checkout\n",
    "kvengine/one.pxd": "cdef enum:\n    NUMBER = 1\n",
    "kvengine/one.pyx": "def number():\n    return NUMBER\n",
}


def start(tree: Path) -> subprocess.Popen[str]:
    code = "from kvengine.one import number; print(number())"
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, cwd=tree, env=environment, stdout=pipe, stderr=pipe, text=True)


def imported(tree: Path) -> tuple[str, str]:
    """Return what a process that imports the module prints, and its errors."""
    with start(tree) as process:
        return process.communicate(timeout=120)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("checkout")
    (tree / "kvengine").mkdir()
    for name, text in FILES.items():
        (tree / name).write_text(text)
    for name in ("setup.py", "kvengine/_checkout.py"):
        shutil.copy(ROOT / name, tree / name)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    environment = {**os.environ, "KVENGINE_BUILD": "debug"}  # compiles fast
    subprocess.run(command, cwd=tree, env=environment, check=True, capture_output=True)
    return tree


@pytest.fixture
def tree(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "tree")  # with the times of its files


def test_what_has_not_changed_is_imported_as_it_is(tree: Path) -> None:
    assert imported(tree) == ("1\n", "")


@pytest.mark.parametrize(
    ("file", "old", "new"), [("one.pyx", "return NUMBER", "return 2"), ("one.pxd", "1", "2")]
)
def test_one_process_compiles_what_has_changed(tree: Path, file: str, old: str, new: str) -> None:
    source = tree / "kvengine" / file
    source.write_text(source.read_text().replace(old, new))
    processes = [start(tree) for _ in range(3)]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [printed for printed, _ in answers] == ["2\n"] * 3
    assert sorted(said for _, said in answers) == ["", "", "kvengine: compiling what has changed\n"]
    assert imported(tree) == ("2\n", "")
    assert (tree / "build/kind").read_text() == "debug"


@pytest.mark.parametrize("is_older", [False, True])
def test_a_module_that_was_added_is_compiled(tree: Path, is_older: bool) -> None:
    source = tree / "kvengine/two.pyx"
    source.write_text("NUMBER = 2\n")
    if is_older:  # moved, or from an archive
        os.utime(source, (1e9, 1e9))
    (tree / "kvengine/__init__.py").write_text(
        "from kvengine import _checkout\nfrom kvengine import two\n"
    )
    assert imported(tree) == ("1\n", "kvengine: compiling what has changed\n")
    source.unlink()
    (tree / "kvengine/__init__.py").write_text("from kvengine import _checkout\n")
    assert imported(tree) == ("1\n", "kvengine: compiling what has changed\n")
    assert imported(tree) == ("1\n", "")


OTHER_PYTHON = """
import runpy, sys

sys.implementation.cache_tag = "cpython-399"
sys.argv[:] = ["setup.py", "-q", "build_ext", "--inplace"]
runpy.run_path("setup.py", run_name="__main__")
"""


def test_what_another_version_of_python_compiled_is_of_no_use(tree: Path) -> None:
    os.utime(tree / "kvengine/one.pyx")
    environment = {**os.environ, "KVENGINE_BUILD": "debug"}
    command = [sys.executable, "-c", OTHER_PYTHON]
    subprocess.run(command, cwd=tree, env=environment, check=True, capture_output=True)
    assert imported(tree) == ("1\n", "kvengine: compiling what has changed\n")
    assert imported(tree) == ("1\n", "")


def test_a_compilation_that_is_killed_holds_up_nobody(tree: Path) -> None:
    for name in ("two", "three"):  # with several, cythonize() has workers
        (tree / f"kvengine/{name}.pyx").write_text("NUMBER = 2\n")
    with start(tree) as process:
        try:
            until(lambda: len(children(process.pid)) == 1, "setup.py has not begun")
            [setup] = children(process.pid)
            until(lambda: len(children(setup)) == 2, "it has no workers")
            os.kill(setup, signal.SIGKILL)
            printed, said = process.communicate(timeout=HANG_S)
        finally:
            process.kill()
    assert printed == ""
    assert "and compiling it failed" in said
    assert imported(tree) == ("1\n", "kvengine: compiling what has changed\n")


def test_c_code_that_was_cut_is_generated_again(tree: Path) -> None:
    """As by a kill in the middle of writing it, or by a full disk."""
    (tree / "kvengine" / "one.pyx").write_text("def number():\n    return NUMBER + 1\n")
    (generated,) = (tree / "build").rglob("one.c")
    generated.write_bytes(generated.read_bytes()[:-5000])  # newer than its source
    assert imported(tree) == ("2\n", "kvengine: compiling what has changed\n")


def test_what_the_compiler_refuses_is_not_imported(tree: Path) -> None:
    source = tree / "kvengine/one.pyx"
    whole = source.read_text()
    source.write_text(whole + "no Python\n")
    for _ in range(2):
        printed, said = imported(tree)
        assert printed == ""
        assert "ImportError: kvengine/one.pyx has changed since it was compiled" in said
        assert "kvengine/one.pyx:3:3: Syntax error" in said
    source.write_text(whole.replace("NUMBER", "3"))
    assert imported(tree)[0] == "3\n"


def test_where_nothing_can_be_written_the_error_says_what_to_do(tree: Path) -> None:
    (tree / f"build/inplace-{sys.implementation.cache_tag}.lock").mkdir()
    os.utime(tree / "setup.py")
    printed, said = imported(tree)
    assert printed == ""
    assert "ImportError: setup.py has changed since it was compiled" in said
    assert f"cd {tree} && {sys.executable} setup.py build_ext --inplace\n[Errno 21]" in said


def test_an_installed_package_compiles_nothing(tree: Path) -> None:
    shutil.rmtree(tree / "build")
    os.utime(tree / "kvengine/one.pyx")
    assert imported(tree) == ("1\n", "")
