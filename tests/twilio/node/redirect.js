const SyncBase = require("twilio/lib/rest/SyncBase");
Object.defineProperty(SyncBase.prototype, "baseUrl", { get: () => process.env.SYNC_URL, set() {} });
