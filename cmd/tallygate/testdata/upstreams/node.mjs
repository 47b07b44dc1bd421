// An HTTP server that answers with what node has read.
import { createHash } from "node:crypto";
import { createServer } from "node:http";

let count = 0;
createServer((request, response) => {
  const number = ++count;
  const hash = createHash("sha256");
  let length = 0;
  request.on("data", (part) => { hash.update(part); length += part.length; });
  request.on("end", () => {
    const lines = [`${number} ${request.method} ${request.url}`];
    for (let i = 0; i < request.rawHeaders.length; i += 2) {
      lines.push(`${request.rawHeaders[i]} ${Buffer.from(request.rawHeaders[i + 1], "latin1").toString("hex")}`);
    }
    const text = [...lines, "", `${length} ${hash.digest("hex")}`, ""].join("\n");
    response.writeHead(200, { "Content-Length": Buffer.byteLength(text), "X-Read": `${number} ${request.method}` });
    response.end(text);
  });
}).listen(Number(process.argv[2]), "127.0.0.1");
