// Shows /openapi.json. Everything is put in as text: nothing from the document becomes markup.

const SECRET = "$TURNWISE_KEY";
const METHODS = ["get", "post", "put", "patch", "delete"];

/** An element with attributes and children; strings become text. */
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.flat().filter((child) => child !== undefined && child !== ""));
  return made;
}

/** Text with `code` marked; blank lines begin a paragraph. */
function prose(text = "") {
  return text.split("\n\n").map((paragraph) =>
    el("p", {}, paragraph.split("`").map((part, n) => (n % 2 ? el("code", {}, part) : part))));
}

const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
const block = (value) => el("pre", {}, shown(value));

/** A table, or nothing without rows. */
function table(heads, rows) {
  if (rows.length === 0) return "";
  const cells = (kind, row) => el("tr", {}, row.map((cell) => el(kind, {}, cell)));
  return el("table", {}, el("thead", {}, cells("th", heads)), el("tbody", {}, rows.map((row) => cells("td", row))));
}

function render(api) {
  const resolve = (part) => {
    if (!part?.$ref) return part ?? {};
    return part.$ref.slice(2).split("/").reduce((at, key) => at[key], api);
  };

  /** What kind of value a schema takes, in a few words; named schemas are links. */
  function kind(schema) {
    if (schema === undefined || Object.keys(schema).length === 0) return ["any JSON"];
    if (schema.$ref) {
      const name = schema.$ref.split("/").at(-1);
      return [el("a", { href: `#schema-${name}` }, name)];
    }
    const any = schema.oneOf ?? schema.anyOf ?? schema.allOf;
    if (any && !schema.type) {
      const joint = schema.allOf ? " and " : " or ";
      return any.flatMap((part, n) => (n ? [joint, ...kind(part)] : kind(part)));
    }
    if (schema.const !== undefined) return [JSON.stringify(schema.const)];
    if (schema.enum) return [schema.enum.map((word) => JSON.stringify(word)).join(" | ")];
    if (schema.type === "array") return ["array of ", ...kind(schema.items)];
    if (!schema.type) return ["limits on ", Object.keys(schema.properties ?? schema).join(", ")];
    const words = [schema.type].flat().join(" or ");
    const { minLength, maxLength, minimum, maximum, format, pattern } = schema;
    const limits = [
      format, pattern && `matching ${pattern}`,
      minLength !== undefined && `length from ${minLength}`, maxLength !== undefined && `length to ${maxLength}`,
      minimum !== undefined && `from ${minimum}`, maximum !== undefined && `to ${maximum}`,
    ].filter(Boolean);
    return [limits.length ? `${words} (${limits.join(", ")})` : words];
  }

  const fields = (schema) => table(["field", "takes", ""], Object.entries(schema.properties ?? {}).map(([name, field]) => [
    [el("code", {}, name), schema.required?.includes(name) ? " *" : ""], kind(field), prose(field.description),
  ]));

  const examples = (content) => Object.entries(content.examples ?? {}).map(([name, example]) =>
    el("details", {}, el("summary", {}, `example: ${name}`), block(resolve(example).value)));

  const contents = (content = {}) => Object.entries(content).map(([media, part]) =>
    [el("p", {}, el("code", {}, media), " ", kind(part.schema)), examples(part)]).flat(2);

  /** A command that asks for it; quoted for a POSIX shell. */
  function curl(path, method, operation) {
    const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
    const parameters = (operation.parameters ?? []).map(resolve);
    const value = (parameter) => encodeURIComponent(parameter.example);
    const filled = path.replace(/\{(\w+)\}/g, (_, name) => value(parameters.find((p) => p.in === "path" && p.name === name)));
    const query = parameters.filter((p) => p.in === "query" && p.required).map((p) => `${p.name}=${value(p)}`).join("&");
    const words = ["curl", path.endsWith("/stream") ? "-N" : "-sS", quote(location.origin + filled + (query && `?${query}`))];
    if (method !== "get" && method !== "post") words.push("-X", method.toUpperCase());
    if (operation.security?.length) words.push("-H", `"X-API-Key: ${SECRET}"`);
    const body = resolve(operation.requestBody).content?.["application/json"];
    if (body) {
      const [first] = Object.values(body.examples ?? {});
      words.push("-H", quote("Content-Type: application/json"), "-d", quote(JSON.stringify(first?.value ?? {})));
    }
    return words.join(" ");
  }

  function response(status, answer) {
    const headers = Object.entries(answer.headers ?? {}).map(([name, header]) => [el("code", {}, name), prose(resolve(header).description)]);
    const events = (answer["x-turnwise-events"] ?? []).map((event) => [
      el("code", {}, event.event), event.id ? "yes" : "no", kind(event.data), [prose(event.description), event.ends ? "Ends the stream." : ""].flat(),
    ]);
    return el("details", { class: "response" },
      el("summary", {}, el("code", { class: "status" }, status), " ", (answer.description ?? "").split("\n")[0].replaceAll("`", "")),
      prose(answer.description), table(["event", "id", "data", ""], events), contents(answer.content), table(["header", ""], headers));
  }

  function operation(path, method, it) {
    const parameters = (it.parameters ?? []).map(resolve).map((p) => [
      [el("code", {}, p.name), p.required ? " *" : ""], p.in, kind(p.schema), prose(p.description),
    ]);
    const body = resolve(it.requestBody).content;
    return el("details", { class: "operation", id: it.operationId },
      el("summary", {}, el("span", { class: "method" }, method.toUpperCase()), el("span", { class: "path" }, path), ` – ${it.summary}`),
      prose(it.description), el("p", { class: "note" }, it.security?.length
        ? `Needs a key for ${Object.values(it.security[0])[0].join(", ")}, once one is configured.` : "Open to all."),
      el("h4", {}, "Try it"), block(curl(path, method, it)),
      parameters.length ? el("h4", {}, "Parameters") : "", table(["name", "in", "takes", ""], parameters),
      body ? [el("h4", {}, "Body"), ...contents(body)] : [],
      el("h4", {}, "Answers"), Object.entries(it.responses).map(([status, answer]) => response(status, resolve(answer))));
  }

  const all = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, it: item[method] })));
  const find = (id) => document.getElementById(id);
  document.title = `${api.info.title} ${api.info.version}`;
  find("about").replaceChildren(...prose(api.info.description));
  find("contents").replaceChildren(el("ul", {}, all.map(({ path, method, it }) =>
    el("li", {}, el("a", { href: `#${it.operationId}` }, `${method.toUpperCase()} ${path}`)))));
  find("operations").replaceChildren(...api.tags.flatMap(({ name, description }) => [
    el("h2", {}, name), ...prose(description),
    ...all.filter(({ it }) => it.tags[0] === name).map(({ path, method, it }) => operation(path, method, it)),
  ]));
  find("schemas").replaceChildren(...Object.entries(api.components.schemas).map(([name, schema]) =>
    el("details", { class: "schema", id: `schema-${name}` }, el("summary", {}, el("code", {}, name)),
      prose(schema.description), schema.properties ? fields(schema) : el("p", {}, kind(schema)),
      el("details", {}, el("summary", {}, "JSON Schema"), block(schema)))));
}

/** Opens the part that the address names. */
function reveal() {
  const part = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (part instanceof HTMLDetailsElement) {
    part.open = true;
    part.scrollIntoView();
  }
}

try {
  const answer = await fetch("/openapi.json");
  if (!answer.ok) throw new Error(`/openapi.json: ${answer.status}`);
  render(await answer.json());
  addEventListener("hashchange", reveal);
  reveal();
  document.body.dataset.state = "shown";
} catch (error) {
  document.getElementById("operations").replaceChildren(el("p", { class: "failed", role: "alert" }, String(error)));
  document.body.dataset.state = "failed";
}
