"""A server on this machine that answers as the Hugging Face Hub does, as far as huggingface_hub needs it."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub(ThreadingHTTPServer):
    """``branches[repository, branch]`` is a commit, ``commits[commit]`` its files; nobody gets ``gated`` ones."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.branches, self.commits, self.gated, self.requests = {}, {}, set(), []

    def commit(self, repository, files, branch="main"):
        """Add files to a branch; return the commit."""
        files = self.commits.get(self.branches.get((repository, branch)), {}) | files
        text = json.dumps([repository, sorted((name, hashlib.sha1(data).hexdigest()) for name, data in files.items())])
        number = hashlib.sha1(f"{text}{len(self.commits)}".encode()).hexdigest()
        self.commits[number] = files
        self.branches[repository, branch] = number
        return number


class Handler(BaseHTTPRequestHandler):
    """Routes for downloads and for commits, with every file as one that is small."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self):
        self.route()

    do_GET = do_POST = do_HEAD

    def log_message(self, *text):
        pass

    def route(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        self.server.requests.append((self.command, path))
        if self.command == "POST" and self.headers.get("Authorization") != "Bearer secret":
            return self.answer(401, {"error": "who are you?"})
        for pattern, method in ROUTES:
            if found := re.fullmatch(pattern, path):
                return method(self, body, **found.groupdict())
        return self.answer(404, {"error": f"{path} is not known"})

    def answer(self, status, content=b"", **headers):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def resolve(self, body, repository, revision, file):
        hub = self.server
        if repository in hub.gated:
            return self.answer(403, X_Error_Code="GatedRepo")
        if repository not in {name for name, _ in hub.branches}:
            return self.answer(404, X_Error_Code="RepoNotFound")
        number = hub.branches.get((repository, revision), revision)
        if number not in hub.commits:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        if file not in hub.commits[number]:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=number)
        data = hub.commits[number][file]
        return self.answer(200, data, X_Repo_Commit=number, ETag=f'"{hashlib.sha1(data).hexdigest()}"')

    def create(self, body):
        asked = json.loads(body)
        name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
        if (name, "main") in self.server.branches:
            return self.answer(409, {"url": f"{self.server.address}/{name}"})
        self.server.commit(name, {".gitattributes": b"*.safetensors filter=lfs"})
        return self.answer(200, {"url": f"{self.server.address}/{name}", "name": name})

    def branch(self, body, repository, revision):
        self.server.branches.setdefault((repository, revision), self.server.branches[repository, "main"])
        return self.answer(200)

    def information(self, body, repository, revision):
        return self.answer(200, {"id": repository, "sha": self.server.branches[repository, revision], "siblings": []})

    def preupload(self, body, repository, revision):
        files = [{"path": each["path"], "uploadMode": "regular"} for each in json.loads(body)["files"]]
        return self.answer(200, {"files": [each | {"shouldIgnore": False} for each in files]})

    def commit(self, body, repository, revision):
        files = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
        number = self.server.commit(repository, files, revision)
        url = f"{self.server.address}/{repository}/commit/{number}"
        return self.answer(200, {"success": True, "commitOid": number, "commitUrl": url, "hookOutput": ""})

    def accept(self, body):
        return self.answer(200, {"errors": [], "warnings": []})


NAME, REVISION = r"(?P<repository>[^/]+/[^/]+)", "(?P<revision>[^/]+)"
ROUTES = (
    (rf"/{NAME}/resolve/{REVISION}/(?P<file>.+)", Handler.resolve),
    ("/api/repos/create", Handler.create),
    ("/api/validate-yaml", Handler.accept),
    (rf"/api/models/{NAME}/branch/{REVISION}", Handler.branch),
    (rf"/api/models/{NAME}/revision/{REVISION}", Handler.information),
    (rf"/api/models/{NAME}/preupload/{REVISION}", Handler.preupload),
    (rf"/api/models/{NAME}/commit/{REVISION}", Handler.commit),
)


@contextmanager
def loopback():
    """Serve while the block runs."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.005,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
