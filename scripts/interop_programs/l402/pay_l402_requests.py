"""Pays for a route with the PyPI package l402-requests: its client, and a WalletBase that is the paying node's endpoint."""

import json
import os
import sys
from importlib.metadata import version

import httpx
from l402_requests import L402Client, WalletBase

URL = os.environ["WATERSHED_URL"]
PAY_URL = os.environ["WATERSHED_PAY_URL"]


class Node(WalletBase):
    async def pay_invoice(self, bolt11: str) -> str:
        async with httpx.AsyncClient(timeout=60) as http:
            answer = await http.post(PAY_URL, json={"invoice": bolt11})
            answer.raise_for_status()
            return answer.json()["preimage"]


def main() -> int:
    out = {
        "client": "l402-requests",
        "version": version("l402-requests"),
        "status": None,
        "body": None,
        "paid_msat_or_null": None,
    }
    done = False
    client = L402Client(wallet=Node(), timeout=60)
    try:
        response = client.get(URL)
        out["status"], out["body"] = response.status_code, response.text
        spent = client.spending_log.total_spent()
        out["paid_msat_or_null"] = spent * 1000 or None
        done = response.status_code == 200 and spent > 0
    except Exception as error:  # the one line of JSON is wanted in any case
        out["body"] = repr(error)
    print(json.dumps(out))
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
