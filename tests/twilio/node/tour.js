// Every call of the resource, with the real client; prints what came of each as a line of JSON.
const twilio = require("twilio");

const client = twilio("AC" + "1".repeat(32), "token");
client.sync.baseUrl = process.argv[2];
const maps = client.sync.v1.services("default").syncMaps;
const items = maps("m").syncMapItems;

async function tell(what, promise) {
  try {
    console.log(JSON.stringify([what, await promise]));
  } catch (error) {
    console.log(JSON.stringify([what, { status: error.status, code: error.code, moreInfo: error.moreInfo }]));
  }
}

const seen = ({ key, data, revision, dateExpires, dateCreated }) => [key, data, revision, dateExpires, dateCreated];
const keys = (list) => list.map((item) => item.key);

async function main() {
  await tell("create map", maps.create({ uniqueName: "m", ttl: 60 }).then((map) => [map.uniqueName, map.revision]));
  await tell("update map", maps("m").update({ collectionTtl: 0 }).then((map) => map.dateExpires));
  await tell("map exists", maps.create({ uniqueName: "m" }));
  const data = { a: [1, null, "é😀"] };
  await tell("create", items.create({ key: "k", data, itemTtl: 60 }).then(seen));
  await tell("item exists", items.create({ key: "k", data: {} }));
  await tell("fetch", items("k").fetch().then(seen));
  await tell("update", items("k").update({ data: { b: 2 }, ifMatch: "0" }).then(seen));
  await tell("stale", items("k").update({ data: {}, ifMatch: "0" }));
  await tell("stale remove", items("k").remove({ ifMatch: "0" }));
  await tell("remove", items("k").remove({ ifMatch: "1" }));
  await tell("gone", items("k").fetch());
  await tell("bad data", items.create({ key: "k", data: [] }));
  for (let number = 0; number < 120; number += 1) {
    await items.create({ key: String(number).padStart(3, "0"), data: {} });
  }
  await tell("list", items.list().then((list) => list.length));
  await tell("limit", items.list({ limit: 3, from: "007", bounds: "exclusive" }).then(keys));
  await tell("down", items.list({ limit: 3, order: "desc" }).then(keys));
  await tell("largest page", items.page({ pageSize: 1000 }).then((page) => page.instances.length));
  const page = await items.page({ pageSize: 2 });
  const next = await page.nextPage();
  await tell("next", keys(next.instances));
  await tell("previous", next.previousPage().then((previous) => keys(previous.instances)));
  await tell("bad order", items.list({ order: "up" }));
  for (const key of ["a b", "é", "a/b", "a?b", "#a", "100%", ".."]) {
    await items.create({ key, data: { key } });
    await tell(key, items(encodeURIComponent(key)).fetch().then((item) => item.data.key));
  }
  await tell("dots", items("..").remove());
  await tell("map", maps("m").fetch().then((map) => map.uniqueName));
  await tell("maps", maps.list().then((list) => list.map((map) => map.uniqueName)));
  await tell("lists", client.sync.v1.services("default").syncLists.create());
  await tell("remove map", maps("m").remove());
}

main();
