// Bubbles, a message box and a few buttons. Knows nothing of nodes and graphs.

import { pictureUrl, shownParts, wordsOf } from "./conversation.js";
import { markdown } from "./markdown.js";

const WORDS = {
  en: {
    user: "You", assistant: "BLIP3-U", system: "System", log: "Conversation", box: "Message",
    hint: "Write a message. Enter sends it.", send: "Send", stop: "Stop", undo: "Undo", fresh: "New",
    copy: "Copy", edit: "Edit", copied: "Copied", thinking: "…", drawing: "Drawing",
    picture: "Picture", linked: "The message comes over a wire. Press Run.",
    empty: "Ask for a picture, ask about one, change it: “draw a red circle”, “make it green”.",
    remember: (n) => `Remember the last ${n} turns`,
  },
  zh: {
    user: "你", assistant: "BLIP3-U", system: "系统", log: "对话", box: "消息",
    hint: "写一条消息，按回车发送。", send: "发送", stop: "停止", undo: "撤销", fresh: "新对话",
    copy: "复制", edit: "编辑", copied: "已复制", thinking: "…", drawing: "正在绘制",
    picture: "图片", linked: "消息来自连线。请按运行。",
    empty: "让它画图、问它图片、再修改：“draw a red circle”、“make it green”。",
    remember: (n) => `只记住最近 ${n} 轮`,
  },
};

const STYLE = `
.b3u-chat { display: flex; flex-direction: column; gap: 6px; width: 100%; height: 100%; box-sizing: border-box;
  min-height: 240px; padding: 6px; font: 13px/1.45 system-ui, sans-serif; color: var(--input-text, #ddd); pointer-events: auto; }
.b3u-log { flex: 1 1 0; min-height: 60px; overflow-y: auto; display: flex; flex-direction: column; gap: 8px;
  padding: 8px; border-radius: 8px; background: var(--comfy-menu-bg, #202020); user-select: text; cursor: auto; }
.b3u-turn { max-width: 88%; display: flex; flex-direction: column; gap: 2px; align-self: flex-start; }
.b3u-turn.user { align-self: flex-end; align-items: flex-end; }
.b3u-bubble { padding: 6px 10px; border-radius: 12px; background: var(--comfy-input-bg, #333);
  overflow-wrap: anywhere; }
.b3u-turn.user .b3u-bubble { background: #2b5278; color: #fff; }
.b3u-bubble > :first-child { margin-top: 0; } .b3u-bubble > :last-child { margin-bottom: 0; }
.b3u-bubble p, .b3u-bubble ul, .b3u-bubble ol, .b3u-bubble pre, .b3u-bubble h4 { margin: 0.4em 0; }
.b3u-bubble ul { list-style: disc; padding-left: 1.4em; } .b3u-bubble ol { list-style: decimal; padding-left: 1.6em; }
.b3u-bubble pre { overflow-x: auto; padding: 6px; background: rgba(0, 0, 0, 0.3); border-radius: 6px; }
.b3u-bubble a { color: #7ab8ff; text-decoration: underline; }
.b3u-bubble img { display: block; width: min(256px, 100%); border-radius: 8px; margin: 4px 0; }
.b3u-actions { display: flex; gap: 8px; opacity: 0.45; }
.b3u-turn:hover .b3u-actions, .b3u-actions:focus-within { opacity: 1; }
.b3u-actions button { all: unset; cursor: pointer; font-size: 11px; padding: 0 2px; }
.b3u-actions button:hover { text-decoration: underline; }
.b3u-chat button:focus-visible, .b3u-log:focus-visible { outline: 2px solid #6aa7ff; outline-offset: 1px; }
.b3u-empty, .b3u-drawing { opacity: 0.7; font-style: italic; }
.b3u-error { color: #ff8f8f; white-space: pre-wrap; max-height: 120px; overflow-y: auto; }
.b3u-row { display: flex; gap: 6px; align-items: stretch; flex: none; }
.b3u-row textarea { flex: 1; resize: none; height: 46px; border-radius: 8px; padding: 6px 8px; font: inherit;
  border: 1px solid var(--border-color, #555); background: var(--comfy-input-bg, #222); color: inherit; }
.b3u-row button { border: 1px solid var(--border-color, #555); border-radius: 8px; padding: 0 12px; cursor: pointer;
  background: var(--comfy-input-bg, #333); color: inherit; font: inherit; }
.b3u-row button.b3u-send { background: #2b5278; color: #fff; }
.b3u-row button:disabled { opacity: 0.4; cursor: default; }
.b3u-tools button { padding: 2px 10px; font-size: 12px; }
/* Nodes 2.0 show the pictures of a node, done or in the making, below its widgets, too. */
.lg-node-widgets:has(.b3u-chat) ~ :is(img, img + div, :has(img)) { display: none; }`;

function make(name, options = {}, ...children) {
  const made = Object.assign(document.createElement(name), options);
  made.append(...children);
  return made;
}

function label(element, text) {
  element.setAttribute("aria-label", text);
  return element;
}

function addStyle() {
  if (document.getElementById("b3u-style")) return;
  document.head.append(make("style", { id: "b3u-style", textContent: STYLE }));
}

export class ChatView {
  // handlers: send(text), draft(text), stop(), undo(), edit(index), fresh(), remember(count);
  // without `send` the conversation is only shown.
  constructor(handlers, language) {
    addStyle();
    this.handlers = handlers;
    this.words = WORDS[language] ?? WORDS.en;
    this.busy = false;
    this.log = label(make("div", { className: "b3u-log", tabIndex: 0 }), this.words.log);
    this.log.setAttribute("role", "log");
    this.element = make("div", { className: "b3u-chat widget-expands" }, this.log);
    if (handlers.send) this.element.append(...this.controls());
    this.keepFromCanvas();
    this.stayAtEnd();
    this.show([]);
  }

  controls() {
    const { words, handlers } = this;
    this.error = make("div", { className: "b3u-error", hidden: true });
    this.error.setAttribute("role", "alert");
    this.box = label(make("textarea", { placeholder: words.hint, rows: 2 }), words.box);
    this.button = make("button", { className: "b3u-send", type: "button", textContent: words.send });
    this.undo = make("button", { type: "button", textContent: words.undo });
    this.fresh = make("button", { type: "button", textContent: words.fresh });
    this.box.addEventListener("input", () => handlers.draft(this.box.value));
    this.box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      if (!this.busy) handlers.send(this.box.value);
    });
    this.button.addEventListener("click", () =>
      this.busy ? handlers.stop() : handlers.send(this.box.value),
    );
    this.undo.addEventListener("click", () => handlers.undo());
    this.fresh.addEventListener("click", () => handlers.fresh());
    return [
      this.error,
      make("div", { className: "b3u-row" }, this.box, this.button),
      make("div", { className: "b3u-row b3u-tools" }, this.undo, this.fresh),
    ];
  }

  keepFromCanvas() {
    for (const name of ["keydown", "keyup", "pointerdown", "contextmenu", "copy", "paste", "cut"]) {
      this.element.addEventListener(name, (event) => event.stopPropagation());
    }
    this.element.dataset.captureWheel = "true"; // Nodes 2.0, while the chat has the focus
    this.log.addEventListener("wheel", (event) => {
      const fits = this.log.scrollHeight <= this.log.clientHeight;
      if (!fits && !event.ctrlKey) event.stopPropagation(); // else the canvas zooms
    });
  }

  // The last words stay in view until the user scrolls up: also when a canvas puts the chat in
  // another place, or makes it larger or smaller.
  stayAtEnd() {
    new ResizeObserver(() => this.atEnd && this.scroll()).observe(this.log);
    this.log.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.log;
      if (!clientHeight) return;
      const movedUp = scrollTop < this.top; // else a picture came in before this event
      this.atEnd = scrollHeight - scrollTop - clientHeight < 60 || (this.atEnd && !movedUp);
      this.top = scrollTop;
    });
  }

  // The turns so far; `pending` is the user's turn that waits for its answer.
  show(turns, pending = null) {
    this.turns = pending ? [...turns, pending] : turns;
    this.log.replaceChildren(...this.turns.map((turn, index) => this.turn(turn, index)));
    if (!this.turns.length && this.box) {
      this.log.append(make("div", { className: "b3u-empty", textContent: this.words.empty }));
    }
    this.growing = null;
    this.scroll();
    this.refresh();
  }

  // The answer while it is written: `turn` as far as it came, and a picture in the making.
  grow(turn, preview = "") {
    const parts = turn ? shownParts(turn) : [];
    const made = this.bubble("assistant", parts.length ? parts : [{ text: this.words.thinking }]);
    if (preview) {
      made.append(this.image(preview, this.words.drawing));
    }
    const article = make("article", { className: "b3u-turn assistant" }, made);
    if (this.growing) this.growing.replaceWith(article);
    else this.log.append(article);
    this.growing = article;
    if (this.atEnd) this.scroll();
  }

  turn(turn, index) {
    const name = this.words[turn.role] ?? turn.role;
    const actions = make("div", { className: "b3u-actions" });
    const copy = make("button", { type: "button", textContent: this.words.copy });
    copy.addEventListener("click", () => this.copy(copy, wordsOf({ parts: this.plain(turn) })));
    actions.append(label(copy, `${this.words.copy}: ${name}`));
    if (this.handlers.edit && turn.role === "user") {
      const edit = make("button", { type: "button", textContent: this.words.edit });
      edit.addEventListener("click", () => this.busy || this.handlers.edit(index));
      actions.append(label(edit, `${this.words.edit}: ${wordsOf(turn).slice(0, 40)}`));
    }
    const bubble = this.bubble(turn.role, shownParts(turn));
    return label(make("article", { className: `b3u-turn ${turn.role}` }, bubble, actions), name);
  }

  plain(turn) {
    return shownParts(turn).map((part) => part.text ?? `[${this.words.picture}] `);
  }

  bubble(role, parts) {
    const bubble = make("div", { className: "b3u-bubble" });
    for (const part of parts) {
      if (part.picture) bubble.append(this.picture(part));
      else if (part.drawing !== undefined) {
        const text = [this.words.drawing, part.drawing || "…"].join(": ");
        bubble.append(make("p", { className: "b3u-drawing", textContent: text }));
      } else if (role === "assistant") bubble.append(...markdown(part.text));
      else bubble.append(...part.text.split("\n").map((line) => make("p", { textContent: line })));
    }
    return bubble;
  }

  picture({ picture, caption }) {
    const url = pictureUrl(picture);
    const image = this.image(url, caption || this.words.picture);
    return make("a", { href: url, target: "_blank", rel: "noopener", title: caption }, image);
  }

  image(src, alt) {
    const image = make("img", { src, alt });
    image.addEventListener("load", () => this.atEnd && this.scroll());
    return image;
  }

  async copy(button, text) {
    await navigator.clipboard?.writeText(text);
    button.textContent = this.words.copied;
    setTimeout(() => (button.textContent = this.words.copy), 1200);
  }

  scroll() {
    this.atEnd = true;
    this.log.scrollTop = this.log.scrollHeight;
    this.top = this.log.scrollTop;
  }

  setBusy(busy) {
    this.busy = busy;
    this.refresh();
  }

  setLinked(linked) {
    if (!this.box) return;
    this.box.disabled = linked;
    this.box.placeholder = linked ? this.words.linked : this.words.hint;
  }

  setDraft(text) {
    if (this.box && this.box.value !== text) this.box.value = text;
  }

  setError(text) {
    if (!this.error) return;
    const count = /remember_last to (\d+)/.exec(text)?.[1];
    this.error.hidden = !text;
    this.error.replaceChildren(text);
    if (count) {
      const button = make("button", { type: "button", textContent: this.words.remember(count) });
      button.addEventListener("click", () => this.handlers.remember(Number(count)));
      this.error.append(" ", button);
    }
  }

  refresh() {
    if (!this.box) return;
    this.button.textContent = this.busy ? this.words.stop : this.words.send;
    this.undo.disabled = this.fresh.disabled = this.busy || !this.turns.length;
    this.log.setAttribute("aria-busy", String(this.busy));
  }
}
