"""What stands between an engine and a registry, and misbehaves as it is told.

Usage: registry_front.py MODEFILE CERTIFICATE KEY OTHER-CERTIFICATE OTHER-KEY

Listens on 127.0.0.1:443. The mode is read anew for each connection and each piece:
  pass N     to the registry on 127.0.0.1:5443, N bytes a second in all
  stall      connections that exist stay, and nothing flows
  closed     nobody listens
  limited    every request gets a 429
  stranger   the certificate is one that nobody trusts
"""

import socket
import ssl
import sys
import threading
import time
from pathlib import Path

MODE, CERTIFICATE, KEY, OTHER_CERTIFICATE, OTHER_KEY = sys.argv[1:]
PIECE = 16 * 1024
BODY = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}'

budget_lock = threading.Lock()
next_free = 0.0


def mode():
    words = Path(MODE).read_text().split()
    return words[0], int(words[1]) if len(words) > 1 else 0


def wait_for_budget(size):
    global next_free
    while mode()[0] == "stall":
        time.sleep(0.1)
    kind, rate = mode()
    if kind != "pass":
        raise ConnectionError(kind)
    with budget_lock:
        next_free = max(next_free, time.monotonic()) + size / rate
        pause = next_free - time.monotonic()
    time.sleep(max(0, pause))


def copy(source, target, throttled):
    try:
        while piece := source.recv(PIECE):
            if throttled:
                wait_for_budget(len(piece))
            target.sendall(piece)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(client):
    kind, _ = mode()
    try:
        if kind in ("limited", "stranger"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*((CERTIFICATE, KEY) if kind == "limited" else (OTHER_CERTIFICATE, OTHER_KEY)))
            with context.wrap_socket(client, server_side=True) as secure:
                secure.recv(PIECE)
                head = f"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\nConnection: close\r\n\r\n"
                secure.sendall(head.encode() + BODY)
            return
        registry = socket.create_connection(("127.0.0.1", 5443))
    except OSError:
        client.close()
        return
    threading.Thread(target=copy, args=(client, registry, False), daemon=True).start()
    copy(registry, client, True)


def main():
    while True:
        while mode()[0] == "closed":
            time.sleep(0.1)
        with socket.create_server(("127.0.0.1", 443)) as listener:
            listener.settimeout(0.2)
            while mode()[0] != "closed":
                try:
                    client, _ = listener.accept()
                except TimeoutError:
                    continue
                client.settimeout(None)
                threading.Thread(target=serve, args=(client,), daemon=True).start()


main()
