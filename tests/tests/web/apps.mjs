// One sign-in for the apps of two origins, and one sign-out: `apps.mjs '{gate, ports, email, password}'`.
// An app is a page whose script asks `gate` for tokens, and sends people to sign in where there are none.
import { createServer } from "node:http";
import { edge, equal, launch, look, open, press, signIn } from "./browser.mjs";

const { gate, ports, email, password } = JSON.parse(process.argv[2]);
const page = `<!doctype html><html lang="en"><title>An app</title><h1>An app</h1><p role="status"></p><script type="module">
const ask = (path, options) => fetch("${gate}" + path, options);
const answer = await ask("/api/v1/auth/session-to-token", { method: "POST", credentials: "include" });
if (answer.status === 401) location.replace("${edge}/sign-in?returnUrl=" + encodeURIComponent(location.href));
else {
  const { user, accessToken, refreshToken } = await answer.json();
  document.querySelector("[role=status]").textContent = user.email;
  window.stillWorks = async () => {
    const headers = { authorization: "Bearer " + accessToken };
    return (await ask("/api/v1/auth/validate", { headers })).status;
  };
  window.refreshes = async () => {
    const headers = { "content-type": "application/json" };
    const body = JSON.stringify({ refreshToken });
    return (await ask("/api/v1/auth/refresh", { method: "POST", headers, body })).status;
  };
}
</script>`;
const servers = ports.map((port) =>
  createServer((_, response) => response.setHeader("content-type", "text/html").end(page)).listen(port, "127.0.0.1"),
);
const [first, second] = ports.map((port) => `http://127.0.0.1:${port}/`);
const who = (tab) => tab.getByRole("status").filter({ hasText: "@" }).innerText();

const browser = await launch();
try {
  const tab = await open(browser);
  await tab.goto(first);
  await tab.waitForURL("**/sign-in?**");
  await look(tab, "sign-in-for-an-app");
  await signIn(tab, email, password);
  await tab.waitForURL(first);
  equal(await who(tab), email, "who is signed in to the first app");
  const other = await tab.context().newPage();
  await other.goto(second);
  equal(await who(other), email, "who is signed in to the second app, by nothing but its page");
  equal(await other.evaluate("stillWorks()"), 200, "a token of the second app");

  const devices = await tab.context().newPage();
  devices.complaints = [];
  await devices.goto(`${edge}/account/devices`);
  equal(await devices.getByText("App, opened in a browser").count(), 2, "both are listed");
  await look(devices, "account-devices-with-apps");
  await press(devices, "Sign out everywhere");
  await look(devices, "signed-out-everywhere");
  for (const app of [tab, other]) {
    equal(await app.evaluate("refreshes()"), 401, "a refresh of an app");
    const until = Date.now() + 10_000;
    let status = 200;
    while (status === 200 && Date.now() < until) status = await app.evaluate("stillWorks()");
    equal(status, 401, "a token of an app at the edge");
    await app.reload();
    await app.waitForURL("**/sign-in?**");
  }
  console.log("{}");
} finally {
  await browser.close();
  for (const server of servers) server.close();
}
