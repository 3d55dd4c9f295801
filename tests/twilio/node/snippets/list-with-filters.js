// Download the helper library from https://www.twilio.com/docs/node/install
const twilio = require("twilio"); // Or, for ESM: import twilio from "twilio";
// Find your Account SID and Auth Token at twilio.com/console
// and set the environment variables. See http://twil.io/secure
const accountSid = process.env.TWILIO_ACCOUNT_SID;
const authToken = process.env.TWILIO_AUTH_TOKEN;
const client = twilio(accountSid, authToken);
async function listSyncMapItem() {
const syncMapItems = await client.sync.v1
.services("ServiceSid")
.syncMaps("MapSid")
.syncMapItems.list({
from: "foo",
order: "asc",
limit: 20,
});
syncMapItems.forEach((s) => console.log(s.key));
}
listSyncMapItem();
