"""export and import: files, standard streams, what goes on, and what is said."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import kvengine

LINES = (
    b'{"key":"a","value":"one"}\n',
    b'{"key":"b","value":"/w==","base64":true,"metadata":{"n":1}}\n',
    '{"key":"é","value":""}\n'.encode(),
)
TEXT = b"".join(LINES)


@pytest.fixture
def filled(data: str) -> str:
    """The folder of a database with three keys in the namespace "full"; returns its id."""
    with kvengine.open(data) as db:
        kv = db.namespace("full")
        kv.put("é", "")
        kv.put("b", b"\xff", metadata={"n": 1})
        kv.put("a", "one")
        return kv.id


def content(data: str, title: str) -> dict[str, bytes]:
    with kvengine.open(data) as db:
        kv = db.namespace(title)
        return {info.name: kv.get(info.name, "bytes") for info in kv.list().keys}


def test_out_to_a_file_and_in_again(run, data: str, filled: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs"
    result = run("export", "--namespace", "full", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("kvengine: exported 3 keys in ")
    assert path.read_bytes() == TEXT
    result = run("import", "--namespace", "copy", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.endswith("kvengine: imported 3 keys\n")
    assert content(data, "copy") == content(data, "full")


@pytest.mark.parametrize("shape", ["ndjson", "wrangler"])
def test_through_a_pipe(process, data: str, filled: str, shape: str) -> None:
    out = process("export", "--namespace-id", filled, "-", "--format", shape)
    assert out.returncode == 0
    if shape == "wrangler":
        assert [entry["key"] for entry in json.loads(out.stdout)] == ["a", "b", "é"]
    else:
        assert out.stdout == TEXT
    done = process("import", "--namespace", "copy", "-", stdin=out.stdout)
    assert (done.returncode, done.stdout) == (0, b"")
    assert content(data, "copy") == content(data, "full")


def test_a_part_of_the_keys(process, filled: str) -> None:
    assert process("export", "--namespace", "full", "-", "--prefix", "é").stdout == LINES[2]
    after = process("export", "--namespace", "full", "-", "--start-after", "a").stdout
    assert after == LINES[1] + LINES[2]


def test_figures_as_json(run, filled: str, tmp_path: Path) -> None:
    path = str(tmp_path / "pairs")
    report = json.loads(run("export", "--namespace", "full", path, "--json").stdout)
    assert (report["keys"], report["bytes"], report["last_key"]) == (3, len(TEXT), "é")
    report = json.loads(run("import", "--namespace", "copy", path, "--json").stdout)
    assert report == {
        "keys": 3, "bytes": 4, "expired": 0, "skipped": 0, "refused": [], "resumed_at": 0,
    }  # fmt: skip


def test_an_export_goes_on(run, filled: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.part").write_bytes(LINES[0] + LINES[1][:10])
    result = run("export", "--namespace", "full", str(tmp_path / "pairs"), "--resume")
    assert "exported 2 keys" in result.stderr
    assert (tmp_path / "pairs").read_bytes() == TEXT


def test_an_import_goes_on_behind_a_line_that_was_corrected(run, data: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs"
    path.write_bytes(LINES[0] + b"{\n" + LINES[2])
    result = run("import", "--namespace", "n", str(path))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"kvengine: {path}, line 2: expected an object like")
    assert result.stderr.count("\n") == 1
    assert list(content(data, "n")) == ["a"]
    path.write_bytes(TEXT)
    result = run("import", "--namespace", "n", str(path), "--resume")
    assert result.stderr == "kvengine: imported 2 keys\n"
    assert list(content(data, "n")) == ["a", "b", "é"]


def test_lines_that_are_left_out_are_named(run, data: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs"
    path.write_bytes(LINES[0] + b'{"key":"x"}\n{"key":"y","value":"","expiration":1}\n')
    result = run("import", "--namespace", "n", str(path), "--skip-errors")
    assert result.exit_code == 0
    assert result.stderr.endswith(
        'kvengine: skipped line 2: the pair has no "value"\n'
        "kvengine: imported 1 key; 1 had expired; skipped 1\n"
    )


def test_all_or_nothing(run, data: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs"
    path.write_bytes(TEXT + b"{\n")
    result = run("import", "--namespace", "n", str(path), "--atomic")
    assert result.exit_code == 2
    assert result.stderr.endswith("; nothing was imported\n")
    assert content(data, "n") == {}


@pytest.mark.parametrize("name", ["export", "import"])
@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "give exactly one of --namespace and --namespace-id"),
        (("--namespace", "full", "--namespace-id", "0" * 32), 2, "give exactly one of"),
        (("--namespace-id", "0" * 32), 3, "does not exist"),
    ],
)
def test_the_namespace(run, filled: str, name: str, options, code: int, said: str) -> None:
    result = run(name, *options, "-")
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr


def test_an_export_makes_nothing(run, data: str, filled: str) -> None:
    assert run("export", "--namespace", "absent", "-").exit_code == 3
    with kvengine.open(data) as db:
        assert [info.title for info in db.namespaces()] == ["full"]
    assert run("export", "--data", data + "2", "--namespace", "n", "-").exit_code == 1
    assert not Path(data + "2").exists()


def test_an_import_that_can_not_begin_makes_nothing(run, data: str, tmp_path: Path) -> None:
    assert run("import", "--namespace", "n", str(tmp_path / "absent")).exit_code == 5
    assert run("import", "--namespace-id", "0" * 32, "-").exit_code == 1
    assert not Path(data).exists()


def test_other_failures(run, filled: str, tmp_path: Path) -> None:
    assert run("export", "--namespace", "full", str(tmp_path)).exit_code == 5
    assert run("import", "--namespace", "full", str(tmp_path / "absent")).exit_code == 5
    assert run("export", "--namespace", "full", "-", "--json").exit_code == 2
    assert run("export", "--namespace", "full", "-", "--resume").exit_code == 2
    assert run("import", "--namespace", "full", "-", "--atomic", "--resume").exit_code == 2


def test_a_reader_that_goes_away_ends_it(data: str, environment: dict[str, str]) -> None:
    with kvengine.open(data) as db:
        db.namespace("n").put("k", "v" * (1 << 20))
    with subprocess.Popen(
        [sys.executable, "-m", "kvengine", "export", "--namespace", "n", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as export:
        assert export.stdout is not None
        assert export.stderr is not None
        assert export.stdout.read(8) == b'{"key":"'
        export.stdout.close()
        assert export.stderr.read() == b""
    assert export.returncode == 141
