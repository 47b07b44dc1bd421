"""A WSGI application that answers with what its server has read."""
import hashlib
import threading

lock = threading.Lock()
count = 0


def application(environ, start_response):
    global count
    with lock:
        count += 1
        number = count
    body = b""
    while part := environ["wsgi.input"].read(65536):
        body += part
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if target is None:
        target = environ["PATH_INFO"] + ("?" + environ["QUERY_STRING"] if environ["QUERY_STRING"] else "")
    lines = ["%d %s %s" % (number, environ["REQUEST_METHOD"], target)]
    for key, value in environ.items():
        if key.startswith("HTTP_") or key in ("CONTENT_LENGTH", "CONTENT_TYPE"):
            lines.append(key.removeprefix("HTTP_") + " " + value.encode("latin-1").hex())
    lines += ["", "%d %s" % (len(body), hashlib.sha256(body).hexdigest()), ""]
    text = "\n".join(lines).encode()
    start_response("200 OK", [("Content-Length", str(len(text))), ("X-Read", "%d %s" % (number, environ["REQUEST_METHOD"]))])
    return [text]
