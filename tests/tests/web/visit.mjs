// Goes to a relying party's address as somebody who is not signed in yet, signs in, agrees where that is
// asked, and says where the browser ends up: `visit.mjs '{url, back, email, password, name}'`.
import { createServer } from "node:http";
import { launch, look, open, press, signIn } from "./browser.mjs";

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
  let isBack = false;
  arrived.then(() => (isBack = true));
  // Not every party asks, and Synapse asks by itself.
  for (const button of ["Allow", "Continue"]) {
    const asks = page.getByText(button, { exact: true });
    if (isBack || (await asks.count()) === 0) continue;
    if (button === "Allow") await look(page, `consent-${name}`);
    if (button === "Allow") await press(page, button);
    else await asks.click();
  }
  console.log(JSON.stringify({ url: await arrived }));
} finally {
  await browser.close();
}
