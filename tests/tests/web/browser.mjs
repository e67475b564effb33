// A real Chromium, as the tests of pages and of relying parties drive it.
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import axe from "axe-core";
import { chromium } from "playwright-core";

export const edge = process.env.EDGE_URL;
const screens = process.env.SCREENS;
/// Nothing takes so long unless it hangs.
const PATIENCE_MILLIS = 20_000;
const MOST_REQUESTS = 2;
const MOST_BYTES = 40_000;

const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
const quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"];

export const launch = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM, args: [...flags, ...quiet] });

// A person's browser: cookies of its own. What its pages complain of is in `complaints`.
export async function open(browser, options = {}) {
  const context = await browser.newContext({ locale: "en-GB", ...options });
  context.setDefaultTimeout(PATIENCE_MILLIS);
  const page = await context.newPage();
  page.complaints = [];
  page.on("console", (message) => {
    // A page that answers with a mistake is also told of here.
    const isStatus = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !isStatus) page.complaints.push(message.text());
  });
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  return page;
}

export function equal(found, wanted, what) {
  const [left, right] = [found, wanted].map((value) => JSON.stringify(value));
  if (left !== right) throw new Error(`${what}: ${left}, not ${right}`);
}

export function holds(condition, what) {
  if (!condition) throw new Error(what);
}

// Looks at a page: keeps a picture of it, and lets axe judge it.
export async function look(page, name) {
  mkdirSync(screens, { recursive: true });
  await page.screenshot({ path: join(screens, `${name}.png`), fullPage: true });
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  const found = serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
  holds(found.length === 0, `${name} is hard to use for some:\n${found.join("\n")}`);
  equal(page.complaints, [], `what ${name} complains of`);
}

// Opens a page as somebody who was never here: so many requests and bytes until it can be seen.
export async function isLight(browser, path) {
  const page = await open(browser);
  const sizes = [];
  page.on("response", (response) => sizes.push(response.body().then((body) => body.length, () => 0)));
  const answer = await page.goto(edge + path);
  equal(answer.status(), 200, path);
  const all = await Promise.all(sizes);
  const bytes = all.reduce((sum, size) => sum + size, 0);
  holds(all.length <= MOST_REQUESTS && bytes <= MOST_BYTES, `${path}: ${all.length} requests, ${bytes} bytes`);
  await page.context().close();
}

// What comes behind `mark` in a letter to this address, up to the end of the word.
export async function mailed(email, mark) {
  const folder = join(process.env.DATA_DIR, "mail");
  const until = Date.now() + PATIENCE_MILLIS;
  while (Date.now() < until) {
    for (const file of readdirSync(folder).sort().reverse()) {
      const text = readFileSync(join(folder, file), "utf8").replaceAll("=\r\n", "").replaceAll("=3D", "=");
      const at = text.includes(email) ? text.indexOf(mark) : -1;
      if (at >= 0) return text.slice(at + mark.length).split(/[\s"<]/)[0];
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`no letter to ${email} with ${mark}`);
}

export async function fill(page, fields) {
  for (const [name, value] of Object.entries(fields)) await page.fill(`[name=${name}]`, value);
}

// Presses the button that has sent the fields, and waits for what comes of it.
export async function press(page, name) {
  const button = page.getByRole("button", { name, exact: true });
  await Promise.all([page.waitForNavigation(), button.click()]);
}

export const signIn = async (page, email, password) => {
  await fill(page, { email, password });
  await press(page, "Sign in");
};
