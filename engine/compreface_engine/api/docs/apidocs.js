"use strict";

// Draws the operations of /frs-core-api.json. Text goes in as text, never as markup.
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

function operation(path, method, said) {
  const section = element("section");
  const title = element("h2");
  title.append(element("code", method.toUpperCase(), "method"), element("code", path));
  section.append(title, element("p", said.summary));
  const parameters = said.parameters || [];
  if (parameters.length) {
    section.append(rows("Parameters", parameters.map((one) => [
      one.name, `${one.in}${one.required ? ", required" : ""}. ${one.description || ""}`,
    ])));
  }
  section.append(rows("Answers", Object.entries(said.responses).map(
    ([status, one]) => [status, one.description])));
  return section;
}

fetch("/frs-core-api.json").then((answer) => answer.json()).then((api) => {
  const list = document.getElementById("operations");
  list.replaceChildren();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, said] of Object.entries(methods)) list.append(operation(path, method, said));
  }
}).catch((error) => {
  document.getElementById("operations").textContent = `The list could not be read: ${error}`;
});
