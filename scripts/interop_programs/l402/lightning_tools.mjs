// Pays for a route with @getalby/lightning-tools: its fetch402 for L402, and a wallet that is the paying node's endpoint.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fetchWithL402 } from "@getalby/lightning-tools/402/l402";

const client = "@getalby/lightning-tools";
const { WATERSHED_URL, WATERSHED_PAY_URL } = process.env;

// the package does not export its package.json
function version() {
  const main = createRequire(import.meta.url).resolve("@getalby/lightning-tools/402/l402");
  for (let at = dirname(main); ; at = dirname(at)) {
    try {
      const read = JSON.parse(readFileSync(join(at, "package.json"), "utf8"));
      if (read.name === client) return read.version;
    } catch {}
    if (at === dirname(at)) return "unknown";
  }
}

const wallet = {
  async payInvoice({ invoice }) {
    const answer = await fetch(WATERSHED_PAY_URL, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ invoice }),
    });
    if (!answer.ok) throw new Error(`the paying node answered ${answer.status}: ${await answer.text()}`);
    const { preimage, fee_msat } = await answer.json();
    return { preimage, fees_paid: fee_msat };
  },
};

const out = { client, version: version(), status: null, body: null, paid_msat_or_null: null };
let done = false;
try {
  const response = await fetchWithL402(WATERSHED_URL, {}, { wallet });
  out.status = response.status;
  out.body = await response.text();
  if (response.payment?.paid) out.paid_msat_or_null = response.payment.amountSat * 1000;
  done = response.status === 200 && out.paid_msat_or_null > 0;
} catch (error) {
  out.body = String(error?.cause ?? error);
}
console.log(JSON.stringify(out));
process.exitCode = done ? 0 : 1;
