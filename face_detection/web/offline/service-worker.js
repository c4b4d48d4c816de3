// Keeps the page, its scripts and the runtime, so that they open without a network. The server puts VERSION and FILES
// before this text: when one of the files changes so does this script, and the browser fetches all of them anew.

const CACHE = `face-recognition-page-${VERSION}`;
const PREFIX = "face-recognition-page-";

addEventListener("install", (event) => {
  const fetchAll = async () => {
    const cache = await caches.open(CACHE);
    await cache.addAll(FILES.map((file) => new Request(file, { cache: "no-cache" })));
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
  if (event.request.method !== "GET" || origin !== location.origin || !FILES.includes(pathname)) return;
  const answer = async () => (await (await caches.open(CACHE)).match(pathname)) ?? fetch(event.request);
  event.respondWith(answer());
});
