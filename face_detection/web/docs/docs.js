// Shows /openapi.json: one foldable entry for each operation, with the fields of what it takes and answers.
import { addressOf } from "../addresses.js";

const element = (name, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
};

const resolve = (description, schema) =>
  schema.$ref ? description.components.schemas[schema.$ref.split("/").pop()] : schema;

const typeOf = (description, schema) => {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map((one) => typeOf(description, one)).join(" or ");
  if (schema.type === "array") return schema.items ? `list of ${typeOf(description, schema.items)}` : "list";
  if (schema.type === "object" && schema.additionalProperties) return `object of ${typeOf(description, schema.additionalProperties)}`;
  return schema.type ?? "any";
};

const limitsOf = (schema) => {
  const parts = [];
  if (schema.default !== undefined && schema.default !== null) parts.push(`default ${JSON.stringify(schema.default)}`);
  if (schema.minimum !== undefined) parts.push(`at least ${schema.minimum}`);
  if (schema.maximum !== undefined) parts.push(`at most ${schema.maximum}`);
  if (schema.maxLength !== undefined) parts.push(`at most ${schema.maxLength} characters`);
  return parts.length ? ` (${parts.join(", ")})` : "";
};

const row = (name, type, text) =>
  element("tr", {}, element("td", {}, element("code", { textContent: name })), element("td", { textContent: type }), element("td", { textContent: text }));

const fieldsTable = (description, schema) => {
  const target = resolve(description, schema.items ?? schema);
  const fields = Object.entries(target.properties ?? {});
  if (!fields.length) return element("p", { textContent: typeOf(description, schema) });
  const required = new Set(target.required ?? []);
  const body = element("tbody", {}, ...fields.map(([name, field]) =>
    row(required.has(name) ? name : `${name}?`, typeOf(description, field), (field.description ?? "") + limitsOf(field))));
  const lead = schema.items ? `A list of ${typeOf(description, schema.items)}:` : "";
  return element("div", {}, element("p", { textContent: lead }), element("table", {}, body));
};

const section = (title, ...children) => [element("h3", { textContent: title }), ...children];

const entry = (description, path, method, operation) => {
  const content = element("div");
  if (operation.parameters.length) {
    content.append(...section("Parameters", element("table", {}, element("tbody", {},
      ...operation.parameters.map((one) => row(one.name, one.in, (one.schema.description ?? "") + limitsOf(one.schema)))))));
  }
  if (operation.requestBody) {
    const kinds = operation.requestBody.content;
    const described = kinds["application/json"] ?? Object.values(kinds)[0];
    content.append(...section(`Body: ${Object.keys(kinds).join(", ")}`, described.schema ? fieldsTable(description, described.schema) : ""));
  }
  const answer = operation.responses["200"].content?.["application/json"];
  content.append(...section("Answer", answer ? fieldsTable(description, answer.schema) : element("p", { textContent: "See its Content-Type." })));
  content.append(...section("Errors", element("p", {
    textContent: Object.entries(operation.responses).filter(([status]) => status !== "200")
      .map(([status, one]) => `${status} ${one.description}`).join(", "),
  })));
  return element("details", { id: operation.operationId, open: location.hash === `#${operation.operationId}` },
    element("summary", {},
      element("span", { className: "method", textContent: method.toUpperCase() }),
      element("span", { className: "path", textContent: path }),
      element("span", { textContent: operation.summary })),
    content);
};

const main = document.getElementById("operations");
try {
  const response = await fetch(addressOf("/openapi.json"));
  if (!response.ok) throw new Error(`status ${response.status}`);
  const description = await response.json();
  const groups = new Map();
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags[0];
      if (!groups.has(tag)) groups.set(tag, element("section", {}, element("h2", { textContent: tag })));
      groups.get(tag).append(entry(description, path, method, operation));
    }
  }
  main.replaceChildren(...groups.values());
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
} catch (error) {
  main.textContent = `The description cannot be loaded: ${error.message}`;
}
main.setAttribute("aria-busy", "false");
