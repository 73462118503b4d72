// A little markdown as DOM nodes. Nothing of the text is ever parsed as HTML.

const INLINE = /`([^`]+)`|\*\*(.+?)\*\*|__(.+?)__|\*([^*\s](?:[^*]*[^*\s])?)\*|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/;
const FENCE = /^\s*```/;
const HEADING = /^#{1,6}\s+(.*)/;
const BULLET = /^\s*[-*+]\s+(.*)/;
const NUMBER = /^\s*\d+[.)]\s+(.*)/;

function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

function inline(text) {
  const nodes = [];
  for (let rest = text; rest; ) {
    const found = INLINE.exec(rest);
    if (!found) return [...nodes, rest];
    const [whole, code, bold, strong, italic, label, address] = found;
    if (found.index) nodes.push(rest.slice(0, found.index));
    if (code) nodes.push(element("code", code));
    else if (bold || strong) nodes.push(element("strong", ...inline(bold || strong)));
    else if (italic) nodes.push(element("em", ...inline(italic)));
    else {
      const link = element("a", label);
      Object.assign(link, { href: address, target: "_blank", rel: "noopener noreferrer" });
      nodes.push(link);
    }
    rest = rest.slice(found.index + whole.length);
  }
  return nodes;
}

function list(name, lines, pattern) {
  const made = element(name);
  while (lines.length && pattern.test(lines[0])) {
    made.append(element("li", ...inline(pattern.exec(lines.shift())[1])));
  }
  return made;
}

function paragraph(lines) {
  const made = element("p");
  const starts = (line) => [FENCE, HEADING, BULLET, NUMBER].some((p) => p.test(line));
  do {
    if (made.childNodes.length) made.append(element("br"));
    made.append(...inline(lines.shift()));
  } while (lines.length && lines[0].trim() && !starts(lines[0]));
  return made;
}

function code(lines) {
  lines.shift();
  const kept = [];
  while (lines.length && !FENCE.test(lines[0])) kept.push(lines.shift());
  lines.shift();
  return element("pre", element("code", kept.join("\n")));
}

export function markdown(text) {
  const lines = text.split("\n");
  const blocks = [];
  while (lines.length) {
    const line = lines[0];
    if (!line.trim()) lines.shift();
    else if (FENCE.test(line)) blocks.push(code(lines));
    else if (HEADING.test(line)) blocks.push(element("h4", ...inline(HEADING.exec(lines.shift())[1])));
    else if (BULLET.test(line)) blocks.push(list("ul", lines, BULLET));
    else if (NUMBER.test(line)) blocks.push(list("ol", lines, NUMBER));
    else blocks.push(paragraph(lines));
  }
  return blocks;
}
