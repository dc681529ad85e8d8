"use strict";

// Draws the operations of the page's document. Text goes in as text, never as markup.
function element(name, text, className) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function rows(title, entries) {
  const table = element("table");
  const head = element("tr");
  head.append(element("th", title), element("th", ""));
  table.append(head);
  for (const [name, text] of entries) {
    const row = element("tr");
    const cell = element("td");
    cell.append(element("code", name));
    row.append(cell, element("td", text));
    table.append(row);
  }
  return table;
}

// What stands at a place like "#/components/responses/BadRequest".
function follow(api, one) {
  if (!one.$ref) return one;
  return one.$ref.slice(2).split("/").reduce((at, name) => at[name], api);
}

function fields(api, body) {
  return Object.entries(body ? body.content : {}).flatMap(([type, one]) => {
    const schema = follow(api, one.schema);
    const required = schema.required || [];
    return Object.entries(schema.properties || {}).map(([name, said]) => [
      name, `${type}${required.includes(name) ? ", required" : ""}. ${follow(api, said).description || ""}`,
    ]);
  });
}

function operation(api, path, method, said) {
  const section = element("section");
  const title = element("h2");
  title.append(element("code", method.toUpperCase(), "method"), element("code", path));
  section.append(title, element("p", said.summary));
  const parameters = (said.parameters || []).map((one) => follow(api, one)).map((one) => [
    one.name, `${one.in}${one.required ? ", required" : ""}. ${one.description || ""}`,
  ]);
  parameters.push(...fields(api, said.requestBody));
  if (parameters.length) section.append(rows("Parameters", parameters));
  section.append(rows("Answers", Object.entries(said.responses).map(
    ([status, one]) => [status, follow(api, one).description])));
  return section;
}

fetch(document.body.dataset.document).then((answer) => answer.json()).then((api) => {
  const list = document.getElementById("operations");
  list.replaceChildren();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, said] of Object.entries(methods)) {
      list.append(operation(api, path, method, said));
    }
  }
}).catch((error) => {
  document.getElementById("operations").textContent = `The list could not be read: ${error}`;
});
