"""Every failure is one line and a documented exit code, and the store is fine afterwards."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kvengine
from kvengine import errors
from kvengine.cli.failures import EXIT_CODES_HELP, ExitCode, exit_code, one_line

READERS = (("get", "key"), ("list",), ("stats",), ("verify",), ("tail",))
WRITERS = (("put", "key", "value"), ("delete", "key"), ("compact",))


def test_the_help_lists_every_exit_code(run) -> None:
    listed = {int(code) for code in re.findall(r"^  (\d+) ", EXIT_CODES_HELP, re.MULTILINE)}
    assert listed == set(ExitCode)
    shown = run("--help").stdout
    for line in EXIT_CODES_HELP.splitlines()[2:]:
        assert line in shown


@pytest.mark.parametrize("group", [(), ("key",), ("namespace",), ("bulk",), ("token",)])
def test_the_help_shows_each_summary_whole(group, run) -> None:
    assert "..." not in run(*group, "--help").stdout.partition("Commands:")[2]


def test_a_folder_that_does_not_exist_is_reported_with_the_option_for_it(run, tmp_path) -> None:
    result = run("get", "key", "--data", tmp_path / "absent")
    assert result.stderr.endswith("absent does not exist; to choose another folder: --data DIR\n")


def test_damage_is_reported_with_what_to_do(run, tmp_path) -> None:
    run("put", "key", "value", "--data", tmp_path / "store")
    log = tmp_path / "store" / "00000001.log"
    log.write_bytes(log.read_bytes().replace(b"value", b"VALUE"))
    for options in ((), ("--json",)):
        result = run("get", "key", *options, "--data", tmp_path / "store")
        assert result.stderr.endswith("copy what is intact with: kvengine salvage\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.KvError("?"), 1),
        (errors.InvalidRequest("?"), 2),
        (errors.InvalidType("?"), 2),
        (errors.KeyNotFound(b"key"), 3),
        (errors.LimitExceeded("?", 413), 2),
        (errors.NamespaceNotFound("title"), 3),
        (errors.NamespaceExists("title"), 4),
        (errors.VersionConflict(1, 2), 4),
        (errors.StoreClosed("?"), 1),
        (errors.StoreLocked("store", 7), 5),
        (errors.StoreReadOnly("?"), 5),
        (errors.NotAStore("?"), 1),
        (errors.UnsupportedFormat("?"), 1),
        (errors.StorageError(13, "?", "file"), 5),
        (errors.StorageFull(28, "?", "file"), 5),
        (errors.CorruptData("?", file="file", offset=1, expected=2, found=3), 6),
        (errors.LogCompacted(1, 2), 1),
        (FileNotFoundError(2, "?", "file"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_code_of_each_error(error: errors.KvError | OSError, code: int) -> None:
    assert exit_code(error) == code


def test_a_message_is_one_line_without_control_characters() -> None:
    assert one_line(errors.NotAStore("a\nb\x1b[2J\u009b")) == r"a\nb\x1b[2J\u009b"
    assert one_line(errors.NotAStore()) == "NotAStore"


def test_no_command_shows_the_help(run) -> None:
    result = run()
    assert result.exit_code == 2
    assert "Commands:" in result.output
    assert run("launch").exit_code == 2
    assert run("--version").stdout == f"kvengine, version {kvengine.__version__}\n"


def test_every_command_has_help(run) -> None:
    commands = re.findall(
        r"^  ([a-z-]+)  ", run("--help").stdout.split("Commands:")[1], re.MULTILINE
    )
    assert " ".join(commands) == (
        "serve token workerd-config namespace key bulk export import usage watch "
        "put get delete list stats verify compact backup tail consumers salvage promote "
        "replay demo bench"
    )
    for name in commands:
        result = run(name, "-h")
        assert (result.exit_code, result.stdout[:6]) == (0, "Usage:")


@pytest.mark.parametrize("arguments", READERS, ids=lambda a: a[0])
def test_an_absent_store_is_not_made_by_reading(
    process, data: str, arguments: tuple[str, ...]
) -> None:
    result = process(*arguments)
    assert (result.returncode, result.stdout) == (1, b"")
    assert re.fullmatch(rb"kvengine: [^\n]+\n", result.stderr)
    assert not os.path.exists(data)


@pytest.mark.parametrize("arguments", READERS + WRITERS, ids=lambda a: a[0])
def test_a_file_is_not_a_store(run, data: str, arguments: tuple[str, ...]) -> None:
    Path(data).write_text("mine")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(r"kvengine: [^\n]+\n", result.stderr)
    assert Path(data).read_text() == "mine"


@pytest.mark.parametrize("arguments", READERS + WRITERS, ids=lambda a: a[0])
def test_a_folder_of_other_things_is_not_a_store(
    run, data: str, arguments: tuple[str, ...]
) -> None:
    os.mkdir(data)
    Path(data, "file").write_text("mine")
    assert run(*arguments).exit_code == 1
    assert os.listdir(data) == ["file"]


def test_a_folder_without_a_name_is_a_usage_error(run) -> None:
    assert run("list", "--data", "").exit_code == 2


def test_a_store_that_a_process_has_for_itself(run, data: str, exclusive_pid: int) -> None:
    for arguments in WRITERS:
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (5, "")
        assert re.search(rf"\b{exclusive_pid}\b", result.stderr)


def test_readers_work_beside_a_writer(run, holder_pid: int) -> None:
    for arguments in READERS[1:]:
        assert run(*arguments).exit_code == 0
    assert run("get", "key").exit_code == 3


def test_an_endless_output_may_be_cut_short(
    data: str, environment: dict[str, str], process
) -> None:
    with kvengine.Store(data) as store, store.batch() as batch:
        for number in range(20_000):
            batch.put(b"%0100d" % number, b"")
    with subprocess.Popen(
        [sys.executable, "-m", "kvengine", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as listing:
        assert listing.stdout is not None
        assert listing.stderr is not None
        assert listing.stdout.readline() == b"0" * 100 + b"\n"
        listing.stdout.close()
        assert listing.stderr.read() == b""
    assert listing.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [("get", "key"), ("list",), ("stats",), ("--help",)])
def test_an_output_that_is_full_is_a_failure(process, arguments: tuple[str, ...]) -> None:
    process("put", "key", "value")
    with open("/dev/full", "wb") as full:
        result = process(*arguments, stdout=full)
    assert result.returncode == 1
    assert re.fullmatch(rb"kvengine: [^\n]*No space left[^\n]*\n", result.stderr)


def run_in_shell(environment: dict[str, str], line: str) -> "subprocess.CompletedProcess[bytes]":
    """Run *line* with ``kvengine`` standing for the command line under test."""
    line = line.replace("kvengine", f"{sys.executable} -m kvengine")
    return subprocess.run(
        ["sh", "-c", line], env=environment, capture_output=True, check=False, timeout=60
    )


def test_closed_standard_streams(process, environment: dict[str, str]) -> None:
    assert run_in_shell(environment, "kvengine put key value >&- 2>&- <&-").returncode == 0
    closed = run_in_shell(environment, "kvengine get key >&-")
    assert closed.returncode == 1
    assert b"standard output is closed" in closed.stderr
    for arguments in ("put key -", "put key --path -", "bulk get --namespace title -"):
        unread = run_in_shell(environment, f"kvengine {arguments} <&-")
        assert (unread.returncode, b"standard input: it is closed" in unread.stderr) == (2, True)
    # Nothing that was printed went into the store.
    assert process("verify").returncode == 0
    assert process("get", "key").stdout == b"value"


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="this system has no /proc")
def test_no_file_gets_the_number_of_a_closed_stream(environment: dict[str, str]) -> None:
    code = (
        "import os, kvengine.cli.main as m; m.command = lambda **_: "
        "print(*(os.readlink(f'/proc/self/fd/{n}') for n in (0, 2)), os.dup(0), flush=True); "
        "m.main()"
    )
    shell = f'{sys.executable} -c "{code}" <&- 2>&-'
    done = subprocess.run(["sh", "-c", shell], env=environment, capture_output=True, check=False)
    assert done.stdout == b"/dev/null /dev/null 3\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_and_closes_the_store(
    process, data: str, environment: dict[str, str], number: int, code: int
) -> None:
    process("put", "key", "value")
    # The command is made to wait while it has the store open.
    waiting = (
        "import sys\nfrom kvengine.cli import main\nfrom kvengine.cli.store import compact\n"
        "class Waits:\n"
        "    def __init__(self, store): self.store = store\n"
        "    def __enter__(self): return self\n"
        "    def stats(self): print(flush=True); sys.stdin.read()\n"
        "    def __exit__(self, *_): self.store.close(); print('closed', flush=True)\n"
        "opened = compact.open_writer\n"
        "compact.open_writer = lambda folder: Waits(opened(folder))\n"
        "main.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", waiting, "compact"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as held:
        assert held.stdout is not None
        held.stdout.readline()
        held.send_signal(number)
        output, message = held.communicate()
    assert (held.returncode, output) == (code, b"closed\n")
    assert b"Traceback" not in message
    assert process("verify", data).returncode == 0
    assert process("put", "key", "again").returncode == 0
