// Signing in by another provider, and linking an account there: `provider.mjs '{email, password, name}'`,
// where `name` is somebody at the provider whom nobody here knows.
import { edge, equal, holds, launch, look, open, press, signIn } from "./browser.mjs";

const { email, password, name } = JSON.parse(process.argv[2]);
const browser = await launch();

// The provider's own pages, which are a library's.
async function agree(page) {
  await page.locator("[name=login]").fill(name);
  await page.locator("[name=password]").fill("any");
  await page.locator("[type=submit]").click();
  await page.getByRole("button", { name: "Continue" }).click();
}

try {
  const page = await open(browser);
  await page.goto(`${edge}/sign-in`);
  await signIn(page, email, password);
  await page.goto(`${edge}/account/linked`);
  await page.getByRole("button", { name: /^Link / }).click();
  await agree(page);
  await page.waitForURL("**/account/linked?done=linked");
  await look(page, "account-linked-one");
  await page.context().close();

  const other = await open(browser);
  await other.goto(`${edge}/sign-in?returnUrl=/account/linked`);
  await other.getByRole("button", { name: /^Continue with/ }).click();
  await agree(other);
  await other.waitForURL("**/account/linked");
  holds(await other.getByText(`${email} `).first().isVisible(), "it is the same account");
  await press(other, "Unlink");
  equal(await other.getByRole("button", { name: "Unlink" }).count(), 0, "what is linked");
  console.log("{}");
} finally {
  await browser.close();
}
