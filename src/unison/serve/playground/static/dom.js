// Elements from plain data. Text is only ever set as text, never as markup.

export const $ = (id) => document.getElementById(id);

export function el(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// Shows what is wrong with a field beside it; returns whether there is such a field.
export function fault(root, param, message) {
  const field = root.querySelector(`[data-param="${CSS.escape(param)}"]`);
  if (!field || field.closest("[hidden]")) return false;
  const control = field.querySelector("select, textarea, input");
  const words = el("p", { className: "fault", id: `${control.id}-fault`, textContent: message });
  field.append(words);
  control.setAttribute("aria-invalid", "true");
  control.dataset.described = control.getAttribute("aria-describedby") ?? "";
  control.setAttribute("aria-describedby", `${control.dataset.described} ${words.id}`.trim());
  for (let box = field.closest("details"); box; box = box.parentElement.closest("details")) {
    box.open = true;
  }
  control.focus();
  return true;
}

export function clearFaults(root) {
  for (const words of root.querySelectorAll(".fault")) words.remove();
  for (const control of root.querySelectorAll("[aria-invalid]")) {
    control.removeAttribute("aria-invalid");
    control.setAttribute("aria-describedby", control.dataset.described);
  }
}
