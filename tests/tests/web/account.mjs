// The account, and what admins see of it: `account.mjs '{email, password, admin}'`. Who it belongs to has
// used credits already; `admin` is somebody's address who may look after others, with the same password.
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { edge, equal, fill, holds, isLight, launch, look, open, press, signIn } from "./browser.mjs";

const { email, password, admin } = JSON.parse(process.argv[2]);
const browser = await launch();
const heading = (page) => page.getByRole("heading", { level: 1 }).innerText();
const status = (page) => page.getByRole("status").innerText();

async function signedIn(who = email, options = {}) {
  const page = await open(browser, options);
  await page.goto(`${edge}/sign-in`);
  await signIn(page, who, password);
  await page.waitForURL("**/account");
  return page;
}

// RFC 6238, of an authenticator app.
function code(secret, steps = 0) {
  const digits = [...secret.replaceAll(" ", "")].map((letter) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter));
  const bits = digits.map((digit) => digit.toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + steps));
  const mac = createHmac("sha1", key).update(counter).digest();
  const at = mac[19] & 15;
  return String((mac.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

// Each page by its link, as it is read in either language, at night and on a telephone.
async function looksAround() {
  const page = await signedIn();
  await isLight(browser, "/account");
  const links = page.getByRole("navigation", { name: "Your account" }).getByRole("link");
  for (const name of await links.allInnerTexts()) {
    await links.filter({ hasText: name }).click();
    await page.waitForLoadState();
    equal(await heading(page), name, "where a link leads");
    await look(page, `account-${name.toLowerCase().replaceAll(" ", "-")}`);
  }
  await page.context().close();
  const narrow = { viewport: { width: 320, height: 640 }, colorScheme: "dark", locale: "de-DE" };
  const phone = await open(browser, narrow);
  await phone.goto(`${edge}/sign-in`);
  await fill(phone, { email, password });
  await press(phone, "Anmelden");
  const paths = ["", "/security", "/devices", "/linked", "/access", "/credits", "/events", "/data"];
  for (const path of paths) {
    await phone.goto(`${edge}/account${path}`);
    await look(phone, `account${path.replace("/", "-")}-narrow-dark-de`);
    const over = await phone.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    holds(over <= 0, `/account${path} is ${over} pixels too wide`);
  }
  await phone.context().close();
}

async function credits() {
  const page = await signedIn();
  await page.goto(`${edge}/account/credits`);
  equal(await page.locator("svg rect").count(), 30, "a bar for each day");
  equal(await page.getByRole("table").isVisible(), false, "the table is closed");
  await page.getByText("As a table").click();
  holds(await page.getByRole("row").filter({ hasText: "2.5 credits" }).isVisible(), "what was used");
  await look(page, "account-credits-table");
  // Stripe's page is not here: what counts is that the browser goes there.
  const there = page.waitForRequest((request) => request.url().startsWith("https://checkout.stripe."));
  await page.getByRole("button", { name: /^Buy for/ }).first().click({ noWaitAfter: true });
  await there;
  await page.context().close();
}

async function secondFactor() {
  const page = await signedIn();
  await page.goto(`${edge}/account/security`);
  await press(page, "Set up an authenticator app");
  await page.evaluate(() => document.querySelector("img.qr").decode());
  await look(page, "account-factor");
  const secret = await page.locator("code").innerText();
  await fill(page, { code: code(secret) });
  await press(page, "Turn on");
  equal(await page.locator("code").count(), 10, "recovery codes");
  await look(page, "account-recovery-codes");
  const recovery = await page.locator("code").first().innerText();

  const phone = await open(browser);
  await phone.goto(`${edge}/account/devices`);
  await signIn(phone, email, password);
  await look(phone, "second-step");
  await fill(phone, { code: "000000" });
  await press(phone, "Sign in");
  await look(phone, "second-step-mistake");
  await fill(phone, { code: recovery });
  await press(phone, "Sign in");
  await phone.waitForURL("**/account/devices");

  // The next code: one is good once.
  await page.goto(`${edge}/account/security`);
  await look(page, "account-factor-on");
  await page.locator("form[action$=factor-remove] [name=code]").fill(code(secret, 1));
  await press(page, "Turn off");
  holds((await status(page)).includes("off"), "it is off");
  await phone.reload();
  holds(phone.url().includes("/sign-in"), "other devices are signed out");
  await page.context().close();
  await phone.context().close();
}

async function devices() {
  const [page, phone] = [await signedIn(), await signedIn()];
  await page.goto(`${edge}/account/devices`);
  await press(page, "Sign out on all other devices");
  holds((await status(page)).includes("signed out"), "it is said");
  await phone.reload();
  holds(phone.url().includes("/sign-in"), "the other device is signed out");
  await page.goto(`${edge}/account`);
  await fill(page, { name: "Countess" });
  await press(page, "Save");
  equal(await page.inputValue("[name=name]"), "Countess", "the name");
  await page.context().close();
  await phone.context().close();
}

async function looksAfter() {
  const person = await signedIn();
  const page = await signedIn(admin);
  await page.getByRole("link", { name: "Administration" }).click();
  const links = page.getByRole("navigation", { name: "Administration" }).getByRole("link");
  for (const name of await links.allInnerTexts()) {
    await links.filter({ hasText: name }).click();
    await page.waitForLoadState();
    equal(await heading(page), name, "where a link leads");
    await look(page, `admin-${name.toLowerCase()}`);
  }
  await page.goto(`${edge}/admin`);
  await fill(page, { q: email });
  await press(page, "Search");
  await page.getByRole("link", { name: email }).click();
  await page.waitForLoadState();
  await look(page, "admin-user");
  await page.getByRole("link", { name: "Credits" }).click();
  await page.waitForLoadState();
  await fill(page, { amount: "1,5", reason: "for the trouble" });
  await press(page, "Give");
  await look(page, "admin-credits-mistake");
  await fill(page, { amount: "1.5" });
  await press(page, "Give");
  equal(await status(page), "Done.", "given");
  await page.getByRole("button", { name: "Refund" }).first().click();
  await page.waitForURL("**refund=**");
  await look(page, "admin-refund");
  await fill(page, { reason: "it did not work" });
  await press(page, "Refund");
  equal(await status(page), "Done.", "refunded");
  await person.goto(`${edge}/account/credits`);
  for (const text of ["for the trouble", "it did not work"]) {
    holds(await person.getByText(text).first().isVisible(), text);
  }
  await page.getByRole("link", { name: "Back to the account" }).click();
  await page.waitForLoadState();
  await press(page, "Sign out everywhere");
  await person.reload();
  holds(person.url().includes("/sign-in"), "they are signed out");
  await press(page, "Ban");
  await signIn(person, email, password);
  holds((await person.getByRole("alert").first().innerText()).includes("disabled"), "they are banned");
  await press(page, "Lift the ban");
  await person.context().close();
  const other = await signedIn();
  equal((await other.goto(`${edge}/admin`)).status(), 404, "who is no admin");
  await look(other, "not-found");
  await other.context().close();
  await page.context().close();
}

async function leaves() {
  const page = await signedIn();
  await page.goto(`${edge}/account/data`);
  const [file] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Download your data" }).click(),
  ]);
  const data = JSON.parse(readFileSync(await file.path(), "utf8"));
  equal(data.account[0].email, email, "whose data it is");
  await fill(page, { password, address: "somebody@example.org" });
  await press(page, "Delete for ever");
  await look(page, "account-delete-mistake");
  await fill(page, { password, address: email });
  await press(page, "Delete for ever");
  await look(page, "account-deleted");
  await page.goto(`${edge}/sign-in`);
  await signIn(page, email, password);
  holds(await page.getByRole("alert").first().isVisible(), "there is no such account");
  await page.context().close();
}

try {
  await looksAround();
  await credits();
  await secondFactor();
  await devices();
  await looksAfter();
  await leaves();
  console.log("{}");
} finally {
  await browser.close();
}
