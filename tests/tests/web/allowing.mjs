// An app of somebody else's that is refused, allowed, and loses access: `allowing.mjs '{url, back, name,
// email, password}'`, where `url` asks for a code and `back` is where it is sent.
import { createServer } from "node:http";
import { edge, equal, holds, launch, look, open, press, signIn } from "./browser.mjs";

const { url, back, name, email, password } = JSON.parse(process.argv[2]);
const server = createServer((_, response) => response.end("you are back"));
server.listen(new URL(back).port, "127.0.0.1");
const browser = await launch();
const answer = (page, name) => new URL(page.url()).searchParams.get(name);
const isAsked = async (page) => {
  await page.goto(url);
  return page.getByRole("heading", { name: `Sign in to ${name}?` }).isVisible();
};

try {
  const page = await open(browser);
  await page.goto(url);
  await signIn(page, email, password);
  // From the page of the sign-in the browser goes on by itself.
  await page.getByRole("button", { name: "Cancel", exact: true }).click();
  await page.waitForURL(`${back}**`);
  equal(answer(page, "error"), "access_denied", "what the app hears of a refusal");
  holds(await isAsked(page), "who has refused is asked again");
  await press(page, "Allow");
  await page.waitForURL(`${back}**`);
  holds(answer(page, "code"), "the app has a code");
  equal(await isAsked(page), false, "who has allowed it is asked no more");
  await page.goto(`${edge}/account/access`);
  await look(page, "account-access-one");
  await press(page, "Take access back");
  holds((await page.getByRole("status").innerText()).includes("no access"), "it is said");
  holds(await isAsked(page), "who has taken it back is asked again");
  console.log("{}");
} finally {
  await browser.close();
  server.close();
}
