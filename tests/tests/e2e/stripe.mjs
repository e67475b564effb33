// Signs an event as Stripe does, by its own library, and delivers it; prints the answer's status.
import Stripe from "stripe";

const [url, secret, payload] = process.argv.slice(2);
const { webhooks } = new Stripe("sk_test_of_no_account");
const signature = webhooks.generateTestHeaderString({ payload, secret });
const headers = { "content-type": "application/json", "stripe-signature": signature };
const answer = await fetch(url, { method: "POST", headers, body: payload });
console.log(answer.status);
