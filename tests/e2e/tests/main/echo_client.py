"""A WebSocket client against a guest's server: python3 echo_client.py URL [CA]. Prints «all well» when all was as it should be."""

import sys

import websocket
from websocket import ABNF

url, ca = sys.argv[1], sys.argv[2:]
options = {"timeout": 30, "host": "ws.localhost"}
if ca:
    options["sslopt"] = {"ca_certs": ca[0], "server_hostname": "ws.localhost"}

ws = websocket.create_connection(url, **options)
assert ws.status == 101 and ws.headers["upgrade"] == "websocket", ws.headers
ws.send("grüße")
assert ws.recv() == "grüße"
for size in [0, 125, 126, 65535, 65536, 1 << 20]:
    ws.send_binary(b"x" * size)
    assert ws.recv() == b"x" * size, size
# A ping between the two fragments of one message.
ws.send_frame(ABNF.create_frame("a", ABNF.OPCODE_TEXT, 0))
ws.ping("are you there")
ws.send_frame(ABNF.create_frame("b", ABNF.OPCODE_CONT, 1))
pong, message = ws.recv_frame(), ws.recv_frame()
assert (pong.opcode, pong.data) == (ABNF.OPCODE_PONG, b"are you there"), pong
assert (message.opcode, message.data) == (ABNF.OPCODE_TEXT, b"ab"), message
# The server's own close comes through, with its code: here for a frame that says it will be far too long.
ws.sock.sendall(bytes([0x82, 0xFF]) + (1 << 40).to_bytes(8, "big") + b"mask")
end = ws.recv_frame()
assert (end.opcode, end.data) == (ABNF.OPCODE_CLOSE, (1009).to_bytes(2, "big")), end
ws.close()

# A close handshake that the client begins.
ws = websocket.create_connection(url, **options)
ws.send_close(1000, b"bye")
end = ws.recv_frame()
assert (end.opcode, end.data[:2]) == (ABNF.OPCODE_CLOSE, (1000).to_bytes(2, "big")), end
ws.close()
print("all well")
