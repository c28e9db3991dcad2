"""A paying node behind HTTP: POST {"invoice": ...} gives {"preimage": ..., "fee_msat": ...}. Pays with `watershed-payments
wallet send`. Prints its address, then serves until it is ended.

usage: paying_node.py PROGRAM DATA
"""

import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

PROGRAM, DATA = sys.argv[1:]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        command = [PROGRAM, "--data", DATA, "--json", "wallet", "send", asked["invoice"]]
        paid = subprocess.run(command, capture_output=True, text=True, check=False)
        payment = json.loads(paid.stdout) if paid.returncode == 0 else {}
        if payment.get("state") == "paid":
            status, answer = 200, {"preimage": payment["preimage"], "fee_msat": payment["fee"]}
        else:
            status, answer = 502, {"error": paid.stderr or payment}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
print(f"http://127.0.0.1:{server.server_port}/pay", flush=True)
server.serve_forever()
