// The chat on Converse and Show Chat.
//
// Converse keeps its state in two ordinary widgets: `message`, what is said next, and
// `conversation`, JSON of all before. They are hidden behind the chat; a run with a message adds
// both turns to the conversation. Without this script the two widgets do the same by hand.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { ChatView } from "./chat_view.js";
import { conversationOf, turnsOf, wordsOf } from "./conversation.js";

const CONVERSE = "BLIP3U_Converse";
const SHOW_CHAT = "BLIP3U_ShowChat";
const SIZE = { [CONVERSE]: [440, 820], [SHOW_CHAT]: [420, 480] };
const LEAST_HEIGHT = 240;

const applied = new Set(); // conversations that came from the host; each is taken over once
const chats = new WeakMap(); // node -> Talk or ChatView

const language = () =>
  String(app.ui?.settings?.getSettingValue?.("Comfy.Locale") ?? "en").split("-")[0];

function addView(node, view) {
  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => LEAST_HEIGHT };
  const widget = node.addDOMWidget("chat", "BLIP3U_CHAT_VIEW", view.element, options);
  widget.serialize = false; // what it shows is in other widgets, or in the node's output
  node.hideOutputImages = true; // pictures stand in the text
  const [width, height] = SIZE[node.comfyClass];
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
}

function hide(widget) {
  widget.hidden = true;
  widget.options.hidden = true; // Nodes 2.0
  widget.computeSize = () => [0, -4];
}

class Talk {
  constructor(node) {
    this.node = node;
    this.running = null; // id of the host's job
    this.sent = ""; // the message that is being answered
    const widget = (name) => node.widgets.find((w) => w.name === name);
    this.message = widget("message");
    this.conversation = widget("conversation");
    [this.message, this.conversation].forEach(hide);
    this.message.serializeValue = () => this.prompt().message;
    this.conversation.serializeValue = () => this.prompt().conversation;
    this.view = new ChatView(
      {
        draft: (text) => (this.message.value = text),
        send: (text) => this.send(text),
        stop: () => api.interrupt(this.running),
        undo: () => this.goBack(this.turns.length - 2),
        edit: (index) => this.goBack(index),
        fresh: () => this.set([], ""),
        remember: (count) => this.remember(count),
      },
      language(),
    );
    addView(node, this.view);
  }

  get turns() {
    return turnsOf(this.conversation.value);
  }

  get linked() {
    return (this.node.inputs ?? []).some((i) => i.name === "message" && i.link != null);
  }

  // What the host is given. With nothing new to say it is what gave the last answer, so that the
  // host knows it and runs nothing again; another seed answers the last message once more.
  prompt() {
    const kept = { message: this.message.value, conversation: this.conversation.value };
    const turns = this.turns;
    const [asked, answered] = turns.slice(-2);
    if (kept.message.trim() || this.linked || answered?.role !== "assistant") return kept;
    const shown = asked.parts.some((part) => part.picture);
    const connected = (this.node.inputs ?? []).some((i) => i.name === "image" && i.link != null);
    if (shown && !connected) return kept;
    return { message: wordsOf(asked), conversation: conversationOf(turns.slice(0, -2)) };
  }

  async send(text) {
    if (!text.trim() || this.view.busy) return;
    this.message.value = text;
    this.view.setError("");
    this.begin(null);
    let queued = false;
    const note = () => (queued = true);
    api.addEventListener("promptQueued", note);
    await app.queuePrompt(0, 1);
    api.removeEventListener("promptQueued", note);
    const refused = Object.keys(app.lastNodeErrors ?? {}).length > 0; // older frontends
    if (!queued || refused) this.end(); // and the host says why
  }

  begin(job) {
    this.running = job ?? this.running;
    if (this.view.busy) return;
    this.sent = this.linked ? "" : this.message.value;
    this.view.setBusy(true);
    const asked = { role: "user", parts: [this.sent] };
    this.view.show(this.turns, this.sent.trim() ? asked : null);
    if (this.sent.trim()) this.view.setDraft("");
    this.view.grow(null);
  }

  grow({ turn, conversation }) {
    if (conversation) return this.take(conversation); // a cancelled answer
    this.turn = turn;
    this.view.grow(turn, this.preview);
  }

  showPreview(blob) {
    URL.revokeObjectURL(this.preview ?? "");
    this.preview = URL.createObjectURL(blob);
    this.view.grow(this.turn, this.preview);
  }

  take(conversation) {
    applied.add(conversation);
    const asked = turnsOf(conversation).findLast?.((turn) => turn.role === "user");
    const said = asked && wordsOf(asked) === this.message.value;
    this.set(turnsOf(conversation), said ? "" : this.message.value);
  }

  end(error = "") {
    URL.revokeObjectURL(this.preview ?? "");
    Object.assign(this, { running: null, turn: null, preview: null, sent: "" });
    this.view.setBusy(false);
    this.view.setError(error);
    this.render();
  }

  goBack(length) {
    const turns = this.turns.slice(0, Math.max(0, length));
    const next = this.turns[turns.length];
    this.set(turns, next?.role === "user" ? wordsOf(next) : "");
    this.view.box.focus();
  }

  remember(count) {
    const widget = this.node.widgets.find((w) => w.name === "remember_last");
    widget.value = count;
    this.send(this.message.value);
  }

  set(turns, draft) {
    this.conversation.value = conversationOf(turns);
    this.message.value = draft;
    this.render();
    this.node.setDirtyCanvas?.(true, true);
    const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
    (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
  }

  render() {
    if (this.view.busy) return;
    this.view.show(this.turns);
    this.view.setDraft(this.message.value);
    this.view.setLinked(this.linked);
  }
}

// A node by the id that the host runs it under: "5", or "12:5" inside a subgraph.
function nodeOf(id) {
  let graph = app.rootGraph ?? app.graph;
  const path = String(id ?? "").split(":");
  const last = path.pop();
  for (const part of path) graph = graph?.getNodeById(part)?.subgraph;
  return graph?.getNodeById(last);
}

function talkOf(id) {
  const found = chats.get(nodeOf(id));
  return found instanceof Talk ? found : null;
}

function talks() {
  const graphs = [app.rootGraph ?? app.graph, ...((app.rootGraph ?? app.graph).subgraphs?.values() ?? [])];
  const nodes = graphs.flatMap((graph) => graph.nodes ?? graph._nodes);
  return nodes.map((node) => chats.get(node)).filter((chat) => chat instanceof Talk);
}

function executed(node, output, restored) {
  const [conversation] = output?.conversation ?? [];
  const chat = chats.get(node);
  if (conversation === undefined || !chat) return;
  if (chat instanceof ChatView) chat.show(turnsOf(conversation));
  else if (!restored) {
    chat.view.setBusy(false);
    chat.take(conversation);
  } else if (!applied.has(conversation) && follows(conversation, chat.turns)) {
    chat.take(conversation); // it ended while another workflow was open
  }
}

function follows(conversation, turns) {
  const known = turnsOf(conversation).slice(0, turns.length);
  return turnsOf(conversation).length > turns.length && conversationOf(known) === conversationOf(turns);
}

function listen() {
  const job = (event) => event.detail?.prompt_id;
  const ended = (event) => talks().filter((talk) => talk.running && talk.running === job(event));
  api.addEventListener("executing", ({ detail }) => talkOf(detail?.node ?? detail)?.begin(detail?.prompt_id));
  api.addEventListener("blip3u.conversation", ({ detail }) => {
    const talk = talkOf(detail.node);
    talk?.begin(detail.prompt_id);
    talk?.grow(detail);
  });
  api.addEventListener("b_preview_with_metadata", ({ detail }) => {
    const talk = talkOf(detail.displayNodeId ?? detail.nodeId);
    if (talk?.view.busy) talk.showPreview(detail.blob);
  });
  api.addEventListener("execution_start", (event) =>
    talks().forEach((talk) => talk.view.busy && (talk.running ??= job(event))),
  );
  api.addEventListener("execution_success", (event) => ended(event).forEach((talk) => talk.end()));
  api.addEventListener("execution_interrupted", (event) =>
    ended(event).forEach((talk) => talk.end()),
  );
  api.addEventListener("execution_error", (event) =>
    ended(event).forEach((talk) => {
      const own = nodeOf(event.detail.node_id) === talk.node;
      talk.end(own ? event.detail.exception_message : "");
    }),
  );
}

app.registerExtension({
  name: "BLIP3-U.chat",

  setup: listen,

  beforeRegisterNodeDef(nodeType, { name }) {
    if (!(name in SIZE)) return;
    nodeType.prototype.onDrawBackground = () => {}; // the classic canvas draws output pictures there
    const { onExecuted, onConfigure, onConnectionsChange } = nodeType.prototype;
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      executed(this, output, false);
    };
    nodeType.prototype.onConfigure = function () {
      onConfigure?.apply(this, arguments);
      chats.get(this)?.render?.();
    };
    nodeType.prototype.onConnectionsChange = function () {
      onConnectionsChange?.apply(this, arguments);
      chats.get(this)?.render?.();
    };
  },

  nodeCreated(node) {
    if (node.comfyClass === CONVERSE) chats.set(node, new Talk(node));
    if (node.comfyClass === SHOW_CHAT) {
      chats.set(node, new ChatView({}, language()));
      addView(node, chats.get(node));
    }
  },

  // Newer frontends: outputs come back with an open workflow's tab.
  onNodeOutputsUpdated(outputs) {
    for (const [locator, output] of Object.entries(outputs)) {
      const [id, subgraph] = String(locator).split(":").reverse();
      const root = app.rootGraph ?? app.graph;
      const node = (subgraph ? root.subgraphs?.get(subgraph) : root)?.getNodeById(id);
      if (node) executed(node, output, true);
    }
  },
});
