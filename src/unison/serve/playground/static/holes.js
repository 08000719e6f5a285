// A prompt with holes: [[8]] stands for 8 tokens to write.

import { el } from "./dom.js";

const HOLE = /\[\[(\d{1,5})\]\]/g;

// Returns text and numbers of tokens, in order.
export function parsed(text) {
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(HOLE)) {
    if (match.index > at) parts.push(text.slice(at, match.index));
    parts.push(Number(match[1]));
    at = match.index + match[0].length;
  }
  if (at < text.length) parts.push(text.slice(at));
  return parts;
}

// Returns the whole canvas; without a hole in the prompt the new tokens follow it.
export function canvas(prompt, suffix, count) {
  const parts = parsed(prompt);
  const holed = parts.some((part) => typeof part === "number");
  return [...parts, ...(holed ? [] : [count]), ...(suffix ? [suffix] : [])];
}

export function drawn(mirror, text) {
  const pieces = [];
  let at = 0;
  for (const match of text.matchAll(HOLE)) {
    pieces.push(text.slice(at, match.index), el("mark", { textContent: match[0] }));
    at = match.index + match[0].length;
  }
  mirror.replaceChildren(...pieces, `${text.slice(at)}\n`);
}

export function insert(area, size) {
  area.setRangeText(`[[${size}]]`, area.selectionStart, area.selectionEnd, "end");
  area.dispatchEvent(new Event("input", { bubbles: true }));
  area.focus();
}

export function described(text) {
  const holes = parsed(text).filter((part) => typeof part === "number");
  if (!holes.length) return "Type [[8]], or insert a hole, where 8 tokens are to be written.";
  const tokens = holes.reduce((sum, size) => sum + size, 0);
  const count = holes.length === 1 ? "1 hole" : `${holes.length} holes`;
  return `${count}, ${tokens} tokens to write; the holes say how long the text gets.`;
}
