/**
 * A server for guests, in Python. Paths: /echo the body, /big/N N bytes,
 * /headers what was sent, /slow answers after a while, /events server-sent events, /ws a WebSocket handshake and then
 * bytes as they come, /deny refuses an upgrade, /log what has ended.
 */
export const SERVER = String.raw`
import hashlib, http.server, socketserver, sys, threading, time
log = []
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *rest): pass
    def body(self):
        if self.headers.get("transfer-encoding") == "chunked":
            parts = []
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                part = self.rfile.read(size)
                self.rfile.readline()
                if size == 0: return b"".join(parts)
                parts.append(part)
        return self.rfile.read(int(self.headers.get("content-length") or 0))
    def answer(self, data, type="application/octet-stream"):
        self.send_response(200)
        self.send_header("content-type", type)
        self.send_header("content-length", str(len(data)))
        self.send_header("set-cookie", "a=1")
        self.send_header("set-cookie", "b=2")
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(data)
    def serve(self):
        path = self.path.split("?")[0]
        if path == "/echo": self.answer(self.body())
        elif path == "/sum": self.answer(hashlib.sha256(self.body()).hexdigest().encode())
        elif path.startswith("/big/"):
            left, piece = int(path[5:]), bytes(range(256)) * 256
            self.send_response(200)
            self.send_header("content-length", str(left))
            self.end_headers()
            try:
                while left > 0 and self.command != "HEAD":
                    self.wfile.write(piece[:left])
                    left -= min(left, len(piece))
            except OSError: self.close_connection = True
        elif path == "/headers": self.answer(repr(self.command + " " + self.path + "\n" + str(self.headers)).encode())
        elif path == "/log": self.answer("\n".join(log).encode())
        elif path == "/slow":
            log.append("slow begun")
            time.sleep(1)
            self.answer(b"slow answer")
        elif path == "/events":
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            try:
                for i in range(1000000):
                    self.wfile.write(b"data: %d\n\n" % i)
                    self.wfile.flush()
                    time.sleep(0.05)
            except OSError: log.append("events cut")
            self.close_connection = True
        elif path == "/ws":
            self.connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            try:
                while True:
                    data = self.connection.recv(65536)
                    if not data: log.append("ws ended"); break
                    self.connection.sendall(data)
            except OSError: log.append("ws cut")
            self.close_connection = True
        elif path == "/deny":
            self.send_response(403)
            self.send_header("content-length", "6")
            self.end_headers()
            self.wfile.write(b"denied")
        elif path == "/junk":
            self.connection.sendall(b"this is no HTTP\r\n\r\n")
            self.close_connection = True
        elif path == "/split":
            self.connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen")
            self.close_connection = True
        else: self.answer(b"hello from " + path.encode())
    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = serve
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 512
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
`;
