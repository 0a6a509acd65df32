"""Read the documents for users, and run what they show.

Of each page, `>>>` examples are run by doctest, as those of every document.  The rest is run here,
as one session of a shell in an empty folder:

* A block of code that begins with a comment naming a file (``# shop.py``) is that file.
* In a ``console`` block, ``$ `` begins a command and ``> `` continues it.  What follows is its
  output, both streams; ``...`` stands for any text.  A command that fails is a mistake in the
  page, unless ``echo $?`` comes next.
* ``kvengine serve`` runs in the background until the page ends.  Ports of a page are replaced by
  free ones, ids and tokens are not compared, and nothing is installed.
* A block marked ``text`` or ``sh`` is not run.
"""

import doctest
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "kvengine/docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
TIMEOUT_S = 200
PORT = re.compile(r"\b87(?:87|88|89)\b")
HOME = "/home/ada"
UNLIKE = [
    (re.compile(r"\b(?:[0-9a-f]{12}|[0-9a-f]{32})\b"), "ID"),
    (re.compile(r"\bkve_[\w-]+"), "TOKEN"),
]
COMPARED = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"(?:#|//) ([\w./-]+\.\w+)(?:,[^\n]*)?\n")
MARK = "@@ step"


class Command(NamedTuple):
    """What is typed, and what the page says comes out."""

    line: str
    output: str


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(text: str) -> list[tuple[str, str]]:
    """Return (language, content) of each block of a page."""
    return BLOCK.findall(text)


def files_of(text: str) -> dict[str, str]:
    """Return the files that a page shows."""
    named = [(NAMED.match(block), block) for _, block in blocks_of(text)]
    return {match[1]: block for match, block in named if match}


def commands_of(text: str) -> list[Command]:
    """Return the commands of a page, in order."""
    commands: list[Command] = []
    for language, block in blocks_of(text):
        if language != "console":
            continue
        assert block.startswith("$ "), block
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append(Command(line[2:], ""))
            elif line.startswith("> ") and not commands[-1].output:
                last = commands[-1]
                commands[-1] = Command(f"{last.line}\n{line[2:]}", "")
            else:
                last = commands[-1]
                commands[-1] = Command(last.line, f"{last.output}{line}\n")
    return commands


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def localized(text: str, folder: Path) -> str:
    """Return a page with ports and folders of this run."""
    ports = dict(zip(("8787", "8788", "8789"), map(str, free_ports(3)), strict=True))
    text = PORT.sub(lambda match: ports[match[0]], text)
    run = r"^\$ kvengine serve(?!.*--port)\b"
    text = re.sub(run, f"$ kvengine serve --port {ports['8787']}", text, flags=re.MULTILINE)
    return text.replace(HOME, str(folder)).replace("/srv/", f"{folder}/srv/")


def script_of(commands: list[Command]) -> str:
    """Return a bash script that marks where the output of each command begins."""
    lines = ["trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT", "status=0"]
    for step, (line, output) in enumerate(commands):
        lines.append(f"echo; echo '{MARK}' {step} $status")
        if re.match(r"(pip|npm) install\b", line):
            continue
        if line.startswith("kvengine serve"):
            shown = max(1, output.count("\n"))
            line = (
                f"{line} >serve.{step} 2>&1 </dev/null &\n"
                f"until grep -qs 'listening on' serve.{step}; do\n"
                f"kill -0 $! || {{ cat serve.{step}; exit 1; }}; sleep 0.1; done\n"
                f"head -n {shown} serve.{step}"
            )
        lines.append(f"(exit $status); {line}\nstatus=$?")
    return "\n".join([*lines, f"echo; echo '{MARK}' {len(commands)} $status", ""])


def run_script(script: str, folder: Path) -> str:
    """Run a script of bash in an empty home; return what it prints."""
    (folder / ".curlrc").write_text("silent\n")  # as on a terminal, without figures
    shims = folder / ".bin"
    shims.mkdir()
    python = shlex.quote(sys.executable)
    for name, command in (("kvengine", f"{python} -m kvengine"), ("python", python)):
        (shims / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (shims / name).chmod(0o755)
    modules = os.environ.get("KVENGINE_NODE_MODULES") or str(ROOT / "tests/node_modules")
    own = {name: value for name, value in os.environ.items() if not name.startswith("KVENGINE")}
    path = [str(shims), str(Path(sys.executable).parent), f"{modules}/.bin", os.environ["PATH"]]
    own |= {"HOME": str(folder), "PATH": ":".join(path), "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    own.pop("XDG_DATA_HOME", None)
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=own,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.communicate(timeout=TIMEOUT_S)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def comparable(text: str) -> str:
    for pattern, word in UNLIKE:
        text = pattern.sub(word, text)
    return text.strip("\n")


def run_page(text: str, folder: Path) -> list[str]:
    """Run the commands of a page in a folder; return what is not as the page says."""
    text = localized(text, folder)
    for name, content in files_of(text).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    commands = commands_of(text)
    printed = run_script(script_of(commands), folder)
    steps = re.split(rf"^{MARK} \d+ (\d+)\n?", printed, flags=re.MULTILINE)
    outputs, statuses = steps[2::2], steps[3::2]
    wrong = []
    for step, (line, want) in enumerate(commands):
        if step >= len(statuses):
            return [*wrong, f"$ {line}\nthe session ended here:\n{printed[-2000:]}"]
        got, fails = outputs[step], statuses[step] != "0"
        following = commands[step + 1].line if step + 1 < len(commands) else ""
        is_same = doctest.OutputChecker().check_output(comparable(want), comparable(got), COMPARED)
        if re.match(r"(pip|npm) install\b", line):
            continue
        if not is_same or (fails and following != "echo $?"):
            wrong.append(f"$ {line}\nwanted:\n{want}got, with status {statuses[step]}:\n{got}")
    return wrong
