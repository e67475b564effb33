// Goes to a relying party's address as somebody who is not signed in yet, signs in, agrees where that is
// asked, and says where the browser ends up: `visit.mjs '{url, back, email, password, name}'`.
import { createServer } from "node:http";
import { launch, look, open, signIn } from "./browser.mjs";

const { url, back, email, password, name } = JSON.parse(process.argv[2]);
const { port, pathname } = new URL(back);

const arrived = new Promise((resolve) => {
  const server = createServer((request, response) => {
    response.end("you are back");
    if (!request.url.startsWith(pathname)) return;
    server.close();
    resolve(new URL(request.url, back).href);
  });
  server.listen(port, "127.0.0.1");
});
const browser = await launch();
try {
  const page = await open(browser);
  await page.goto(url);
  await signIn(page, email, password);
  // Not every party asks, and Synapse asks by itself.
  let asking = [
    page.getByRole("button", { name: "Allow", exact: true }),
    page.getByRole("link", { name: "Continue", exact: true }),
  ];
  for (;;) {
    const never = new Promise(() => {});
    const asks = asking.map((step) => step.waitFor().then(() => step, () => never));
    const step = await Promise.race([arrived.then(() => undefined), ...asks]);
    if (!step) break;
    if (step === asking[0]) await look(page, `consent-${name}`);
    asking = asking.filter((other) => other !== step);
    await step.click();
  }
  console.log(JSON.stringify({ url: await arrived }));
} finally {
  await browser.close();
}
