"""The report of a running run, on loopback and nowhere else."""

import urllib.error
import urllib.request

import pytest

from astune.report.serve import serve_report


def get(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as response:
        return response.read()


def test_the_report_is_served(tmp_path):
    (tmp_path / "report.html").write_bytes(b"<p>done</p>")
    with serve_report(tmp_path) as url:
        assert get(url) == b"<p>done</p>"


def test_a_report_to_come_is_waited_for(tmp_path):
    with serve_report(tmp_path / "not_yet") as url:
        assert b'http-equiv="refresh"' in get(url)


@pytest.mark.parametrize("path", ["config.yaml", "../config.yaml", "checkpoints/"])
def test_nothing_else_is_served(tmp_path, path):
    (tmp_path / "config.yaml").write_text("astune: {}")
    with serve_report(tmp_path) as url, pytest.raises(urllib.error.HTTPError, match="404"):
        get(url + path)


def test_a_request_under_another_name_is_refused(tmp_path):
    with serve_report(tmp_path) as url, pytest.raises(urllib.error.HTTPError, match="403"):
        get(url, Host="evil.example")


def test_it_stops_with_the_run(tmp_path):
    with serve_report(tmp_path) as url:
        pass
    with pytest.raises(urllib.error.URLError):
        get(url)
