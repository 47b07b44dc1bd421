"""An ASGI application that answers with what its server has read."""
import hashlib

count = 0


async def application(scope, receive, send):
    global count
    if scope["type"] != "http":
        return
    count += 1
    number, body, more = count, b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    query = scope["query_string"].decode("latin-1")
    target = scope["raw_path"].decode("latin-1").split("?")[0] + ("?" + query if query else "")
    lines = ["%d %s %s" % (number, scope["method"], target)]
    lines += ["%s %s" % (name.decode("latin-1"), value.hex()) for name, value in scope["headers"]]
    lines += ["", "%d %s" % (len(body), hashlib.sha256(body).hexdigest()), ""]
    text = "\n".join(lines).encode()
    headers = [(b"content-length", b"%d" % len(text)), (b"x-read", b"%d %s" % (number, scope["method"].encode()))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})
