// Registering, signing in and out, another password: as people do it.
import { edge, equal, fill, holds, isLight, launch, look, mailed, open, press, signIn } from "./browser.mjs";

const { email, password } = JSON.parse(process.argv[2]);
const browser = await launch();
const path = (page) => new URL(page.url()).pathname;

async function newcomers() {
  for (const path of ["/sign-in", "/register", "/sign-in/forgot"]) await isLight(browser, path);
  const page = await open(browser);
  await page.goto(`${edge}/sign-in`);
  await look(page, "sign-in");
  await page.getByRole("link", { name: "Create an account" }).click();
  await page.waitForURL("**/register**");
  await look(page, "register");
  await fill(page, { name: "Ada", email, password: "short" });
  await page.evaluate(() => document.querySelector("[name=password]").removeAttribute("minlength"));
  await press(page, "Create account");
  await look(page, "register-mistake");
  holds(await page.getByRole("alert").first().isVisible(), "a mistake is told");
  equal(await page.inputValue("[name=email]"), email, "what was typed");
  await fill(page, { password });
  await press(page, "Create account");
  await look(page, "registered");
  await page.context().close();
}

async function coming() {
  const page = await open(browser);
  await page.goto(`${edge}/account`);
  equal(path(page), "/sign-in", "who is not signed in");
  await signIn(page, email, "not the password");
  await look(page, "sign-in-mistake");
  holds((await page.getByRole("alert").first().innerText()).includes("wrong"), "a wrong password is told");
  await signIn(page, email, password);
  await page.waitForURL("**/account");
  // Where nobody is to be sent, nobody is.
  for (const evil of ["javascript:alert(1)", "//evil.example", "/\\evil.example", "https://evil.example/"]) {
    const other = await open(browser);
    other.on("dialog", () => other.complaints.push("a dialog"));
    await other.goto(`${edge}/sign-in?returnUrl=${encodeURIComponent(evil)}`);
    await signIn(other, email, password);
    await other.waitForURL("**/account");
    equal([other.complaints, new URL(other.url()).origin], [[], edge], evil);
    await other.context().close();
  }
  await page.goto(`${edge}/sign-out`);
  await look(page, "sign-out");
  await press(page, "Sign out");
  await look(page, "signed-out");
  await page.goto(`${edge}/account`);
  equal(path(page), "/sign-in", "who has signed out");
  await page.context().close();
}

// Neither a script nor a mouse is needed.
async function byKeyboard() {
  const page = await open(browser, { javaScriptEnabled: false });
  await page.goto(`${edge}/sign-in`);
  await page.keyboard.press("Tab");
  equal(await page.locator(":focus").innerText(), "Skip to content", "the first stop");
  await page.focus("[name=email]");
  await page.keyboard.type(email);
  await page.keyboard.press("Tab");
  await page.keyboard.type(password);
  await Promise.all([page.waitForURL("**/account"), page.keyboard.press("Enter")]);
  await page.context().close();
}

async function readers() {
  const narrow = { viewport: { width: 320, height: 640 } };
  for (const [name, options, title] of [
    ["sign-in-de", { locale: "de-DE" }, "Anmelden"],
    ["sign-in-dark", { colorScheme: "dark" }, "Sign in"],
    ["sign-in-narrow", narrow, "Sign in"],
    ["sign-in-narrow-dark-de", { ...narrow, colorScheme: "dark", locale: "de-AT" }, "Anmelden"],
  ]) {
    const page = await open(browser, options);
    await page.goto(`${edge}/sign-in`);
    equal(await page.getByRole("heading", { level: 1 }).innerText(), title, name);
    await look(page, name);
    const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    holds(over <= 0, `${name} is ${over} pixels too wide`);
    await page.context().close();
  }
}

async function forgetful() {
  const page = await open(browser);
  await page.goto(`${edge}/sign-in/forgot`);
  await look(page, "forgot");
  await fill(page, { email });
  await press(page, "Send link");
  await look(page, "check-your-mail");
  const link = await mailed(email, `${edge}/api/v1/auth/reset-password`);
  await page.goto(`${edge}/api/v1/auth/reset-password${link}`);
  await look(page, "reset");
  const another = `another ${password}`;
  await page.fill("input[type=password]", another);
  await press(page, "Set password");
  await look(page, "is-reset");
  await page.goto(`${edge}/sign-in`);
  await signIn(page, email, password);
  holds(await page.getByRole("alert").first().isVisible(), "the old password is none");
  await signIn(page, email, another);
  await page.waitForURL("**/account");
  await page.goto(`${edge}/account/security`);
  await fill(page, { currentPassword: another, newPassword: password });
  await press(page, "Change password");
  holds((await page.getByRole("status").innerText()).includes("changed"), "another password");
  await page.context().close();
}

// The ways of the mail: an address is verified, and somebody comes in without a password.
async function byMail() {
  const page = await open(browser);
  await page.goto(`${edge}/sign-in/resend`);
  await look(page, "resend");
  await fill(page, { email });
  await press(page, "Send the mail again");
  const verify = `${edge}/api/v1/auth/verify-email`;
  await page.goto(verify + (await mailed(email, verify)));
  await look(page, "verify");
  await page.fill("input[type=password]", password);
  await press(page, "Verify address");
  await look(page, "verified");
  holds(await page.getByRole("heading", { name: "is verified" }).isVisible(), "the address is verified");
  await page.goto(`${edge}/sign-in/mail`);
  await look(page, "sign-in-by-mail");
  await fill(page, { email });
  await press(page, "Send link");
  const magic = `${edge}/api/v1/auth/magic-link/verify`;
  await page.goto(magic + (await mailed(email, magic)));
  await look(page, "magic-link");
  await press(page, "Sign in");
  await page.goto(`${edge}/account`);
  equal(path(page), "/account", "who came by the mail");
  await page.context().close();
}

try {
  await newcomers();
  await coming();
  await byKeyboard();
  await readers();
  await byMail();
  await forgetful();
  console.log("{}");
} finally {
  await browser.close();
}
