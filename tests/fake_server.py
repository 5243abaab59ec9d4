"""A small OpenAI-compatible server for tests: wants a key, refuses, breaks off, answers chats, as it is told."""

import http.server
import json
import threading

EVENT = {
    "id": "1",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "text": " 4", "token_ids": [7], "finish_reason": "stop", "logprobs": None}],
}


def chat_reply(content="so \\boxed{4}", tokens=9, logprobs=None, finish="stop", **message):
    """A chat completion. message: further fields of it, as reasoning_content."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens}
    choice["logprobs"] = logprobs
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


class FakeServer:
    """key: wanted (None: none). refuse: statuses for the next completions; break_off: the next stream ends after a
    token.

    listed: the models; tokens: what /tokenize answers; metrics: text of /metrics; reply: of the chat endpoint, for a
    body, as an object or as text; said: text of the completions endpoint; retry_after: what a refusal asks for; error:
    what it says. asked: the bodies that came.
    """

    def __init__(self, key=None, port=0):
        self.key, self.refuse, self.asked, self.listed, self.metrics = key, [], [], {"data": [{"id": "m"}]}, None
        self.tokens, self.break_off, self.retry_after = None, False, None
        self.reply, self.said, self.error = lambda body: chat_reply(), None, "because"
        outer = self

        class Handler(Answers):
            server_of_test = outer

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        """Gone: connections are refused from here on."""
        self.http.shutdown()
        self.http.server_close()


class Answers(http.server.BaseHTTPRequestHandler):
    server_of_test: FakeServer

    def log_message(self, *_):
        pass

    def answer(self, status, text, kind="application/json", **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(text.encode())

    def refused(self):
        key = self.server_of_test.key
        if key and self.headers.get("Authorization") != f"Bearer {key}":
            self.answer(401, '{"error": "Unauthorized"}')
            return True
        return False

    def do_GET(self):
        told = self.server_of_test
        if self.refused():
            return
        if self.path == "/metrics" and told.metrics is not None:
            self.answer(200, told.metrics, "text/plain")
        elif self.path == "/v1/models" and told.listed is not None:
            self.answer(200, told.listed if isinstance(told.listed, str) else json.dumps(told.listed))
        else:
            self.answer(404, '{"detail": "Not Found"}')

    def do_POST(self):
        told, body = self.server_of_test, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refused():
            return
        if self.path == "/tokenize":
            if told.tokens is None:
                self.answer(404, '{"detail": "Not Found"}')
            else:
                self.answer(200, json.dumps({"tokens": told.tokens(body)}))
            return
        told.asked.append(body)
        if told.refuse:
            wait = {} if told.retry_after is None else {"Retry_After": str(told.retry_after)}
            self.answer(told.refuse.pop(0), json.dumps({"error": {"message": told.error}}), **wait)
        elif self.path == "/v1/chat/completions":
            reply = told.reply(body)
            kind = "text/html" if isinstance(reply, str) and reply.startswith("<") else "application/json"
            self.answer(200, reply if isinstance(reply, str) else json.dumps(reply), kind)
        elif told.said is not None:
            self.answer(200, told.said, "text/event-stream" if body.get("stream") else "application/json")
        elif told.break_off:
            part = EVENT["choices"][0] | {"text": " 3", "token_ids": [6], "finish_reason": None}
            self.answer(200, f"data: {json.dumps(EVENT | {'choices': [part]})}\n\n", "text/event-stream")
        else:
            self.answer(200, f"data: {json.dumps(EVENT)}\n\ndata: [DONE]\n\n", "text/event-stream")
