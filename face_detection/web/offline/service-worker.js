// Keeps the page, its scripts and the runtime, so that they open without a network. The server puts VERSION and FILES,
// addresses relative to this script's, before this text: when one of the files changes so does this script, and the
// browser fetches all of them anew.

const BASE = new URL("..", location.href).pathname;
const PREFIX = `face-recognition-page${BASE === "/" ? "" : ` ${BASE}`}-`; // a host's caches are those of all its paths
const CACHE = `${PREFIX}${VERSION}`;
const ADDRESSES = FILES.map((file) => new URL(file, location.href).href);

addEventListener("install", (event) => {
  const fetchAll = async () => {
    const cache = await caches.open(CACHE);
    await cache.addAll(ADDRESSES.map((address) => new Request(address, { cache: "no-cache" })));
    await skipWaiting();
  };
  event.waitUntil(fetchAll());
});

addEventListener("activate", (event) => {
  const takeOver = async () => {
    const former = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
    await Promise.all(former.map((name) => caches.delete(name)));
    await clients.claim();
  };
  event.waitUntil(takeOver());
});

addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  const address = origin + pathname;
  if (event.request.method !== "GET" || !ADDRESSES.includes(address)) return;
  const answer = async () => (await (await caches.open(CACHE)).match(address)) ?? fetch(event.request);
  event.respondWith(answer());
});
