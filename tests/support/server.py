"""A web server in this process, for what is fetched from elsewhere."""

import contextlib
import dataclasses
import http.server
import threading
from collections.abc import Iterator


@dataclasses.dataclass
class Server:
    """What the server offers, path to bytes, and what was asked of it.

    `cut_at`: the bytes after which it hangs up; `headers`: further headers of each answer.
    """

    address: str
    files: dict[str, bytes]
    cut_at: int | None = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    asked: list[str] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """While this is open, the server answers; `asked` holds each request's method and path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def answer(self, whole: bool) -> None:
            offered.asked.append(f"{self.command} {self.path}")
            content = offered.files.get(self.path.lstrip("/"))
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            for name, value in offered.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if whole:
                self.wfile.write(content[: offered.cut_at])

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        offered = Server(f"http://127.0.0.1:{running.server_port}/", {})
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield offered
        running.shutdown()
        thread.join()
