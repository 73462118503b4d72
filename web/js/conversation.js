// A conversation as the node Converse keeps it: JSON with turns of texts and named pictures.

import { api } from "../../../scripts/api.js";

const HEAD = { format: "blip3u-conversation", version: 1 };
const FOLDER = /^(.*?)(?: \[(output|input|temp)\])?$/s;
const WISH = /\[IMG\]\s*$/;
const MARK = /<(picture|edit)>((?:(?!<(?:picture|edit)>)[^])*?)<\/\1>\s*$/;
const OPEN_MARK = /<(?:picture|edit)>([^<]*)(?:<\/?\w*>?)?$/;

// What stands in a widget may be anything; what is no conversation has no turns.
export function turnsOf(text) {
  try {
    const turns = JSON.parse(text)?.turns;
    return Array.isArray(turns) && turns.every((t) => Array.isArray(t?.parts)) ? turns : [];
  } catch {
    return [];
  }
}

// The same bytes as the node writes, so that the host's cache knows a prompt again.
export function conversationOf(turns) {
  return turns.length ? JSON.stringify({ ...HEAD, turns }) : "";
}

export const wordsOf = (turn) => turn.parts.filter((part) => typeof part === "string").join("");

export function pictureUrl(name) {
  const [, path, type] = FOLDER.exec(name);
  const cut = path.lastIndexOf("/") + 1;
  const query = { filename: path.slice(cut), subfolder: path.slice(0, Math.max(0, cut - 1)) };
  return api.apiURL(`/view?${new URLSearchParams({ ...query, type: type ?? "output" })}`);
}

// What people see of a turn: {text}, {picture, caption} and, while one is drawn, {drawing}.
export function shownParts(turn) {
  const shown = [];
  let caption = "";
  turn.parts.forEach((part, index) => {
    if (part?.picture) {
      shown.push({ picture: part.picture, caption });
      caption = "";
      return;
    }
    if (turn.role !== "assistant") return shown.push({ text: part });
    let text = part.replace(WISH, "");
    const mark = MARK.exec(text);
    const open = mark ? null : OPEN_MARK.exec(text);
    caption = mark ? mark[2].trim() : "";
    if (mark || open) text = text.slice(0, (mark ?? open).index);
    if (text.trim()) shown.push({ text: text.trim() });
    const wish = open?.[1] ?? mark?.[2] ?? (WISH.test(part) ? "" : null);
    if (wish !== null && !turn.parts[index + 1]?.picture) shown.push({ drawing: wish.trim() });
  });
  return shown;
}
