"""A registry that fails: it answers every request with one error, or never.

Usage: registry_errors.py STATUS CERTIFICATE KEY      (STATUS: 429, 403, or 0 for no response)
"""

import http.server
import json
import ssl
import sys
import time

STATUS, CERTIFICATE, KEY = int(sys.argv[1]), *sys.argv[2:]
CODES = {429: "TOOMANYREQUESTS", 403: "DENIED"}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if not STATUS:
            time.sleep(3600)
        body = json.dumps({"errors": [{"code": CODES[STATUS], "message": "refused"}]}).encode()
        # Only the version of the API is public.
        self.send_response(200 if STATUS == 403 and self.path == "/v2/" else STATUS)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET


server = http.server.ThreadingHTTPServer(("127.0.0.1", 443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
