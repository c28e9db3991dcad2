// Sponsors a run in a real browser, on a phone's screen: pledges, keeps the token, claims what is left.
// Says on standard output what it needs (an invoice paid, the run ended), and is answered on standard input.
import { createInterface } from "node:readline";
import puppeteer from "puppeteer-core";

const { WATERSHED_URL, WATERSHED_TITLE, WATERSHED_ADDRESS, WATERSHED_CHROMIUM, WATERSHED_SHOTS } = process.env;
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function need(what) {
  console.log(JSON.stringify(what));
  const { value } = await answers.next();
  return JSON.parse(value);
}
function check(right, what) {
  if (!right) throw new Error(`not as it should be: ${what}`);
}

const browser = await puppeteer.launch({ executablePath: WATERSHED_CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await browser.newPage();
await page.setViewport({ width: 390, height: 844, isMobile: true, hasTouch: true });
const troubles = [];
page.on("pageerror", e => troubles.push(`script: ${e.message}`));
page.on("console", m => { if (m.type() === "error" && !/status of 4/.test(m.text())) troubles.push(`console: ${m.text()}`); });
page.on("request", r => { if (!r.url().startsWith(WATERSHED_URL) && !r.url().startsWith("data:")) troubles.push(`asks ${r.url()}`); });
const text = id => page.$eval(`#${id}`, e => e.textContent);
const shown = (id, on = true) => page.waitForFunction((id, on) => (document.getElementById(id).checkVisibility()) === on, { timeout: 30000 }, id, on);
const says = (id, part) => page.waitForFunction((id, part) => document.getElementById(id).textContent.includes(part), { timeout: 60000 }, id, part);
const fill = async (id, value) => { await page.$eval(`#${id}`, e => { e.value = ""; }); await page.type(`#${id}`, value); };
const shot = name => WATERSHED_SHOTS ? page.screenshot({ path: `${WATERSHED_SHOTS}/${name}.png`, fullPage: true }) : null;

try {
  const answer = await page.goto(WATERSHED_URL);
  const policy = answer.headers()["content-security-policy"] || "";
  check(policy.includes("default-src 'none'") && !policy.includes("unsafe"), `policy ${policy}`);
  await page.waitForSelector("#runs a");
  const titles = await page.$$eval("#runs a", all => all.map(a => a.textContent));
  check(titles.includes(WATERSHED_TITLE), `titles ${titles}`);
  check(await page.$("#runs img") === null, "a title is text and never markup");
  await Promise.all([page.waitForNavigation(), page.evaluate(title => [...document.querySelectorAll("#runs a")].find(a => a.textContent === title).click(), WATERSHED_TITLE)]);
  await shown("form");
  check(await text("title") === WATERSHED_TITLE && await page.$("#title *") === null, "the title");
  check(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "it fits a phone");
  await shot("form");

  await fill("amount", "-5");
  await page.click("#ask");
  await says("formError", "whole number");
  await fill("amount", "5000");
  await fill("refundTo", "nonsense");
  await page.click("#ask");
  await says("formError", "Lightning address");
  check(await page.$eval("#refundTo", e => e.getAttribute("aria-invalid")) === "true", "the field is marked");
  await fill("refundTo", "");
  await page.click("#ask");
  await shown("pay");
  await page.waitForFunction(() => document.getElementById("qr").complete && document.getElementById("qr").naturalWidth > 0);
  const token = await text("claim");
  check(/^[0-9a-f]{64}$/.test(token), `token ${token}`);
  const invoice = await page.$eval("#invoice", e => e.value);
  check(await page.$eval("#wallet", e => e.getAttribute("href")) === `lightning:${invoice}`, "the wallet's link");
  check(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "it fits a phone with an invoice");
  await shot("invoice");
  await need({ pay: invoice });
  await says("payState", "held");

  // A phone may forget the page while its wallet is open: the token stays until it is kept, and not a moment longer.
  await page.reload();
  await shown("token");
  check(await text("claim") === token, "the token outlives a reload");
  await page.click("#kept");
  await shown("token", false);
  await page.reload();
  await shown("pledge");
  check(!await page.evaluate(token => JSON.stringify({ ...localStorage }).includes(token), token), "the token is forgotten");
  await shown("token", false);

  // Another pledge, with an address, reaches the goal.
  await page.click("#more");
  await shown("form");
  await page.waitForSelector("#chips button");
  await page.$$eval("#chips button", all => all.at(-1).click());
  await fill("sponsor", "bo");
  await fill("refundTo", WATERSHED_ADDRESS);
  await page.click("#ask");
  await page.waitForFunction(old => !["", old].includes(document.getElementById("invoice").value), {}, invoice);
  await need({ pay: await page.$eval("#invoice", e => e.value) });
  await says("payState", "taken");

  const { claim } = await need({ end: true });
  await page.reload();
  await shown("back");
  await says("payState", "paid back to you");
  await fill("backToken", "0".repeat(64));
  await fill("backTo", claim);
  await page.click("#backAsk");
  await says("backError", "not that of a pledge");
  await fill("backToken", token);
  await fill("backTo", claim);
  await page.click("#backAsk");
  await shown("backDone");
  await says("backDone", "sat paid");
  check(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "it fits a phone at the end");
  await shot("refund");
  check(troubles.length === 0, troubles.join("; "));
  console.log(JSON.stringify({ done: await text("backDone"), browser: await browser.version() }));
} catch (error) {
  await shot("failed");
  console.log(JSON.stringify({ failed: `${error.message} ${troubles.join("; ")}` }));
  process.exitCode = 1;
} finally {
  await browser.close();
}
process.exit();
