// Where does a text stand? In canvases as they are shown now, across tokens.

/** Return the places of each match of a query in a row; "#12" finds token 12. */
function matchesIn(trace, sight, query) {
  const number = /^#(\d+)$/.exec(query);
  if (number) {
    const found = [];
    sight.token.forEach((token, place) => {
      if (token === Number(number[1])) found.push([place]);
    });
    return found;
  }
  const { text, places } = spelled(trace, sight);
  const wanted = query.toLowerCase(), found = [];
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
    found.push([...new Set(places.slice(at, at + wanted.length))]);
  }
  return found;
}

/** Return a row's text in small letters, and the place that each letter belongs to. */
function spelled(trace, sight) {
  let text = "";
  const places = [];
  sight.token.forEach((token, place) => {
    const part = token === trace.mask ? "\u0000" : textOf(trace, token).toLowerCase();
    text += part;
    for (let i = 0; i < part.length; i++) places.push(place);
  });
  return { text, places };
}

/** Return the search: its field, and functions that mark what the views show and count it. */
function searching(refresh, viewsNow) {
  const said = make("output", { class: "found-count" });
  const field = make("input", {
    type: "search", placeholder: "text or #token", autocomplete: "off", spellcheck: "false",
  });
  const search = { element: make("div", { class: "search" }, labelled("find", field), said), at: -1 };
  let found = [];
  search.mark = (views) => {
    found = [];
    for (const view of views) {
      const hits = field.value === "" ? [] : matchesIn(view.trace, view.sight, field.value);
      view.matches = hits.length ? new Set(hits.flat()) : null;
      found.push(...hits.map((places) => ({ view, place: places[0] })));
    }
    if (search.at >= found.length) search.at = -1;
    said.textContent = field.value === "" ? "" : tally();
  };
  const tally = () =>
    search.at < 0 ? counted(found.length, "match").replace(/hs$/, "hes") : `${search.at + 1} of ${found.length}`;
  field.addEventListener("input", () => {
    search.at = -1;
    refresh();
  });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !found.length) return;
    event.preventDefault();
    const way = event.shiftKey ? -1 : 1;
    search.at = search.at < 0 && way < 0 ? found.length - 1 : (search.at + way + found.length) % found.length;
    const { view, place } = found[search.at];
    view.cells[place].scrollIntoView({ block: "center", inline: "nearest" });
    viewsNow().forEach((each) => each.box.querySelector(".at")?.classList.remove("at"));
    view.cells[place].classList.add("at");
    said.textContent = tally();
  });
  return search;
}
