// Where the service is: under any path of its host, which it may share with others, even with another of its kind.

const BASE = new URL("..", import.meta.url);

/** The full address of a path of the service, which begins with a slash. */
export const addressOf = (path) => BASE.href + path.slice(1);

/** The name under which the browser keeps something: its storages belong to a whole host. */
export const ownName = (name) => (BASE.pathname === "/" ? name : `${name} ${BASE.pathname}`);
