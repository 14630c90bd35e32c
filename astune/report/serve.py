"""Serves a run's report.html on loopback while the run goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_NOT_YET = b"""<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>astuner</title><p>The report is not written yet. This page looks again every five seconds."""


@contextmanager
def serve_report(run_folder: Path) -> Iterator[str]:
    """Serves `run_folder/report.html`, and nothing else, on 127.0.0.1; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_ReportHandler, run_folder / "report.html"))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="logview", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _ReportHandler(BaseHTTPRequestHandler):
    def __init__(self, report: Path, *arguments: Any) -> None:
        self.report = report
        super().__init__(*arguments)  # answers the request, so it comes last

    def do_GET(self) -> None:
        # A page elsewhere can point its own name at 127.0.0.1 (DNS rebinding); its requests carry that name.
        if self.headers.get("Host", "").partition(":")[0] not in ("127.0.0.1", "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path not in ("/", "/report.html"):
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._send(self.report.read_bytes() if self.report.is_file() else _NOT_YET)

    def _send(self, page: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *arguments: Any) -> None:
        """Keeps requests out of the progress table."""
