// What is a page made of? Elements whose text is always text.

/** Make an element: attributes by name (a function listens), then children, texts or elements. */
function make(kind, attributes = {}, ...children) {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Make a drawing's element. */
function draw(kind, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Make a control under its name. */
function labelled(name, control) {
  return make("label", { class: "field" }, make("span", {}, name), control);
}

/** Make a choice among pairs of a value and a name. */
function choice(pairs, chosen, choose) {
  const options = pairs.map(([value, name]) => make("option", { value }, name));
  const made = make("select", { change: () => choose(made.value) }, ...options);
  made.value = chosen;
  return made;
}

/** Make a part of the page under its heading. */
function part(name, title, ...content) {
  const heading = make("h2", { id: name }, title);
  return make("section", { "aria-labelledby": name }, heading, ...content);
}

/** A trace's letter: A, B, … as far as letters go. */
function letterOf(number) {
  return number < 26 ? String.fromCharCode(65 + number) : String(number + 1);
}

/** A trace's sign in its colour. */
function badge(trace) {
  return make("span", { class: `badge line-${(trace.number % 6) + 1}` }, letterOf(trace.number));
}

function percent(share) {
  return `${(100 * share).toFixed(share < 0.1 || (share > 0.995 && share < 1) ? 1 : 0)} %`;
}

function counted(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}
