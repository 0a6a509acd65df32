"""The benchmark over HTTP, on a tiny load: it measures what it says."""

import shutil

import pytest
from click.testing import CliRunner

from benchmarks.cli import main


@pytest.mark.skipif(
    not (shutil.which("wrk") and shutil.which("nginx")), reason="apt-get install wrk nginx-light"
)
def test_reads_over_http():
    options = ["--seconds", "1", "--repeats", "1", "--long", "1"]
    result = CliRunner().invoke(main, ["http", *options])
    assert result.exit_code == 0, result.output
    rows = {line[:28].strip(): line[28:].split() for line in result.stdout.splitlines()[1:]}
    for name in ("kvengine, REST", "kvengine, workerd", "nginx, static file"):
        rate, ratio, *_ = rows[name]
        assert float(rate.removesuffix("/s").replace(",", "")) > 0
        assert float(ratio) > 0
    assert "get of a value of 25 MiB" in result.stdout


@pytest.mark.skipif(not shutil.which("wrk"), reason="apt-get install wrk")
def test_writes_and_reads_by_workers():
    options = ["--workers", "0,1", "--seconds", "1", "--repeats", "1"]
    result = CliRunner().invoke(main, ["http-workers", *options])
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()[1:]]
    assert [row[:2] for row in rows] == [["--workers", "0"], ["--workers", "1"]]
    for row in rows:
        for what in ("put", "get"):
            assert float(row[row.index(what) + 1].removesuffix("/s").replace(",", "")) > 0
