"""What tests do with a vLLM server: wait for it, cut it off."""

import contextlib
import socket
import threading
import time

from deepprune.engines.servers import metric
from deepprune.engines.serving import metrics


def until(condition, seconds=1800):
    """Wait until condition() is true, however busy the machine is; fail after so many seconds."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"not within {seconds} s"
        time.sleep(0.05)


class Relay:
    """A TCP relay to the server that can be cut: a judge server that is killed, without starting a second one."""

    def __init__(self, url):
        self.target = int(url.rsplit(":", 1)[1].removesuffix("/v1"))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.open, self.requests, self.cut_after = [], 0, None
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            self.open += [client, server]
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self.pump, args=(a, b, a is client), daemon=True).start()

    def pump(self, source, sink, counted):
        try:
            while data := source.recv(65536):
                self.requests += counted and data.count(b"POST ")
                if self.cut_after is not None and self.requests > self.cut_after:
                    self.close()
                    return
                sink.sendall(data)
        except OSError:
            pass

    def close(self):
        self.listener.close()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def is_idle(server) -> bool:
    """Whether the server has no request, by its own metrics."""
    return metric(metrics(server[0]), "vllm:num_requests_running", "vllm:num_requests_waiting") == 0
